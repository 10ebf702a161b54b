"""The names of files are UTF-8 in every command, whatever the locale says.

Pictures, archives and tables name their files in UTF-8, and Arrow and databases open no others. In
a locale with another encoding, such as de_DE.ISO-8859-1, Python up to 3.14 reads the bytes of a
name as that: classes would be called otherwise than their folders, in the record and by the served
model, and what one command writes the next one would not find. A command that was given with
`python -m` begins anew in Python's UTF-8 mode there, with the environment in which its child
processes do the same. What it prints stays in the encoding of the terminal.
"""

from __future__ import annotations

import os
import sys

__all__ = ["encoding_fault"]

_VARIABLE = "PYTHONUTF8"


def encoding_fault(path: str) -> str | None:
    """Return why files in a folder of this name could not be opened, as a clause; None if they can.

    They cannot where another program began Python, or where `PYTHONUTF8=0` was set.
    """
    encoding = sys.getfilesystemencoding()
    if path.isascii() or encoding == "utf-8":
        return None
    return (
        f"its name is no ASCII, and Python takes names of files as {encoding} here: set "
        f"{_VARIABLE}=1 before Python is started, or choose another folder"
    )


# See `machine.ending` for what "-m" means. The variable is set, so that this happens once.
if (
    sys.argv[:1] == ["-m"]
    and sys.getfilesystemencoding() != "utf-8"
    and _VARIABLE not in os.environ
):
    os.environ[_VARIABLE] = "1"
    if encoding := getattr(sys.stdout, "encoding", None):
        os.environ.setdefault("PYTHONIOENCODING", encoding)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
