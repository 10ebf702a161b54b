"""Bakeoff: which image classifier should I use for these pictures, and how sure are you?"""

# Before any other import of the project: what it registers for the end of a command runs last.
from .machine import ending as ending

# It may begin the command anew, so that it comes before what takes time.
from .machine import file_names as file_names

# It must come before whatever loads OpenMP.
from .machine import openmp as openmp

_CLASSES = ("ConfigError", "Forecast", "Model", "Run", "RunFailed", "Sweep", "Verdict")
_OFFERED = (*_CLASSES, "compare", "fit", "load", "scaling", "sweep")


def __getattr__(name: str) -> object:
    """Return what `api` offers, such as `sweep`; imported when it is first used."""
    if name in _OFFERED:
        from . import api

        return getattr(api, name)
    if name == "__version__":
        from .machine.package import package_version

        return package_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return what notebooks complete."""
    return [*_OFFERED, "__version__"]
