"""The fenced blocks of the pages, and what the tests put in the place of their placeholders."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# A changelog shows no commands to type.
PAGES = sorted(
    (*(ROOT / name for name in ("README.md", "CONTRIBUTING.md")), *ROOT.glob("docs/*.md"))
)
_FENCE = re.compile(
    r"(?:^<!-- test: (?P<note>(?:(?!-->).)*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_SWAP = re.compile(r"(?P<new>\S.*?) for (?P<old>\S+)$")
# An epoch, without a search for the fastest settings and without pictures of the run.
_BRIEF = ("runtime=float32", "tracking.figures=false", "trainer.max_epochs=1")
# Two trials of a small network, one after another, and the better one again.
_FEW = (
    "families=[cnn]",
    *("budget.trials=2", "finalists=1", "finalist_seeds=1", "workers.count=1", *_BRIEF),
)
_TRAIN = re.compile(r"\b(python -m src\.train|bakeoff train)(?= )")
# Models that train no network, and runs that bring their own length.
_IDLE = re.compile(r"model=(handcrafted|embedding|projections)|resume=")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        note: of the comment `<!-- test: NOTE -->` on the line before it, or "": `skip: REASON`,
            `server: PORT` (it runs until the end of the page, and the next block waits for it), or
            `NEW for OLD`, what to put in the place of a word.
    """

    page: Path
    line: int
    language: str
    text: str
    note: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def skipped(self) -> str:
        """Why it is not run, or ""."""
        return self._after("skip: ")

    @property
    def port(self) -> int | None:
        """Of the server that it starts."""
        return int(port) if (port := self._after("server: ")) else None

    @property
    def swap(self) -> tuple[str, str] | None:
        """A word, and what to put in its place."""
        found = None if self.skipped or self.port else _SWAP.fullmatch(self.note)
        return (found["old"], found["new"]) if found else None

    def _after(self, start: str) -> str:
        return self.note.removeprefix(start) if self.note.startswith(start) else ""


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start("text")),
            found["language"],
            found["text"],
            found["note"] or "",
        )
        for found in _FENCE.finditer(text)
    ]


def without_blocks(page: Path) -> str:
    """Return what stands outside of the fenced blocks of a page."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def shortened(text: str) -> str:
    """Return commands that ask for less: two trials of a race, an epoch of a network.

    What they say stays; limits are added, of work and not of time, as a busy machine is slow.
    """
    lines = []
    for line in text.replace("\\\n", " ").splitlines():
        if "--help" in line or "--cfg" in line:
            pass
        elif " src.sweep" in line:
            own = "families=" in line
            overrides = " ".join(_FEW[1:] if own else _FEW)
            if "--config-name dense" in line:  # of pixels
                overrides = overrides.replace("families=[cnn]", "families=[fcn]")
            line = line.replace(" src.sweep", f" src.sweep {overrides}")
        elif _TRAIN.search(line) and not _IDLE.search(line):
            line = re.sub(r" trainer\.max_epochs=\S+", "", line)
            line = _TRAIN.sub(rf"\1 {' '.join(_BRIEF)}", line, count=1)
        lines.append(line)
    few = ", ".join(f'"{override}"' for override in _FEW)
    return re.sub(r"(?<![.\w])minutes=", f"{few}, minutes=", "\n".join(lines)) + "\n"
