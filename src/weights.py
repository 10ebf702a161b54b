"""List the pretrained networks that this machine can load without a connection, or fetch others.

Races rank all that are listed. Weights are kept in the caches of their libraries.

python -m src.weights
python -m src.weights filter=vit
python -m src.weights fetch=suggested
python -m src.weights fetch=[convnext_tiny.fb_in22k_ft_in1k]
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict

if not __package__:  # it was given as a file, in which no import finds the others
    print("error: run python -m src.weights in the checkout, not a path", file=sys.stderr)
    sys.exit(2)

from .config.checks import ConfigError
from .config.command_line import run_command
from .config.models import WeightsSettings
from .machine.failures import RunFailed
from .machine.status import doing


def weights(settings: WeightsSettings, overrides: Sequence[str]) -> None:
    """Fetch what is to be fetched, then print one table, and how a network of it is named."""
    # timm and torchvision take a moment, which help and wrong overrides should not wait for.
    with doing("loading timm and torchvision"):
        from .models.weights import fetch, loadable
        from .reporting.terminal import format_weights
    for name in settings.fetched:
        with doing(f"fetching {name}"):
            try:
                found, is_new = fetch(name)
            except ValueError as error:
                raise ConfigError(f"fetch: {error}.") from error
            except OSError as error:
                if error.errno is not None:  # of the disk, which is named where all commands end
                    raise
                raise RunFailed(
                    f"{name} was not fetched ({error}): it takes a connection to the hub, or to a "
                    "mirror that HF_ENDPOINT names"
                ) from error
        size = f"{found.file.stat().st_size / 1e6:,.0f} MB"
        print(f"{name}: {f'fetched {size}' if is_new else 'is here already'}", flush=True)
    networks = loadable()
    wanted = (settings.filter or "").casefold()
    listed = [one for one in networks if wanted in one.name.casefold()]
    if networks and not listed:
        raise ConfigError(
            f"filter is {settings.filter!r}: none of the {len(networks)} networks that this "
            "machine can load has that in its name; leave it out to see them."
        )
    width = shutil.get_terminal_size((100, 24)).columns
    print(format_weights([asdict(one) for one in listed], width), flush=True)


def main() -> int:
    """Return the exit code of the command line."""
    return run_command(__doc__, WeightsSettings, weights)


if __name__ == "__main__":
    sys.exit(main())
