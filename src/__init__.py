"""Bakeoff: which image classifier should I use for these pictures, and how sure are you?"""

# Before any other import of the project: what it registers for the end of a command runs last.
from .machine import ending as ending

# It must come before whatever loads OpenMP.
from .machine import openmp as openmp


def __getattr__(name: str) -> object:
    """Return what `api` offers, such as `sweep`; imported when it is first used."""
    if name in ("Model", "Run", "Sweep", "Verdict", "compare", "fit", "load", "sweep"):
        from . import api

        return getattr(api, name)
    if name == "__version__":
        from .machine.package import package_version

        return package_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
