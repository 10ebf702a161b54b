"""The command `bakeoff`, in a checkout `python -m src`: the entries by their names.

bakeoff train model=cnn data=digits
"""

from __future__ import annotations

import os
import sys

if not __package__:  # it was given as a file, in whose folder `subprocess` finds another `select`
    print("error: run python -m src in the checkout, not a path", file=sys.stderr)
    sys.exit(2)

import subprocess

from .config.console import on_plain_output
from .machine.package import CHECKOUT, ENTRIES, PACKAGE, command, package_version
from .machine.text import nearest

_COMPLETION = {
    "bash": """_bakeoff() {
    local IFS=$'\\n'
    COMPREPLY=($(bakeoff complete -- "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
    [[ ${COMPREPLY[0]} == *[=.] ]] && compopt -o nospace
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=/}
complete -o default -F _bakeoff bakeoff
""",
    "zsh": """#compdef bakeoff
_bakeoff() {
    local -a found
    found=("${(@f)$(bakeoff complete -- "${LBUFFER}" 2>/dev/null)}")
    compadd -S '' -a found
}
compdef _bakeoff bakeoff
""",
    "fish": """complete -c bakeoff -f -a '(bakeoff complete -- (commandline -cp) 2>/dev/null)'
""",
}


@on_plain_output
def main() -> int:
    """Run the command line and return its exit code."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        print(_help())
    elif name in ("-V", "--version"):
        print(f"bakeoff {package_version()}")
    elif name == "completion":
        if len(rest) != 1 or rest[0] not in _COMPLETION:
            shells = ", ".join(_COMPLETION)
            return _refuse(f"completion is of one of the shells {shells}: bakeoff completion bash.")
        print(_COMPLETION[rest[0]], end="")
    elif name == "complete":
        from .config.completion import completions

        print("\n".join(completions(rest[-1] if rest else "")))
    elif name not in ENTRIES:
        known = ", ".join(ENTRIES)
        return _refuse(f"there is no command {name!r}{nearest(name, ENTRIES)}: there are {known}.")
    else:
        return _run(ENTRIES[name][0], rest)
    return 0


def _run(module: str, arguments: list[str]) -> int:
    """Run an entry as `python -m` does: its child processes repeat that command line."""
    # Where it is installed, the current folder may hold a package of the same name.
    safe = ["-P"] if CHECKOUT is None else []
    line = [sys.executable, *safe, "-m", f"{PACKAGE}.{module}", *arguments]
    if os.name == "nt":  # there execv returns to the terminal at once
        return subprocess.run(line, check=False).returncode
    os.execv(sys.executable, line)


def _help() -> str:
    lines = ["Which image classifier should I use for these pictures, and how sure are you?", ""]
    meanings = {command(name): meaning for name, (_, meaning) in ENTRIES.items()}
    if CHECKOUT is None:  # in a checkout the shell would complete `python`
        meanings["bakeoff completion SHELL"] = "complete commands and keys in bash, zsh or fish"
    width = max(map(len, meanings))
    lines += [f"  {name:<{width}}  {meaning}" for name, meaning in meanings.items()]
    start = command("sweep", "data=FOLDER", "budget.minutes=10")
    lines += ["", "With --help each lists its settings. To begin:", f"  {start}"]
    return "\n".join(lines)


def _refuse(reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
