"""The display of a race: its slots, the best trial so far, and the rest of the budget."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live
from rich.text import Text

from ..config.console import direct
from ..machine.text import visible, visible_lines
from ..metrics.summary import metric_name
from ..records.trials import COMPLETE, FAILED, PRUNED, RUNNING, STOPPED, TrialRecord
from ..reporting.formatting import Table, duration, metric_text, one_line, settings_text
from ..reporting.scales import family_colors
from ..search.loop import Observer

__all__ = ["Display"]

_REFRESH_SECONDS = 0.25
_PLAIN_SECONDS = 60.0
_MAX_SLOTS = 16
_LINES_BESIDE_SLOTS = 6
_NUMBERS = frozenset({0, 2, 3, 4})
_STYLES = {COMPLETE: "green", PRUNED: "yellow", FAILED: "red"}
_COUNTED = ((COMPLETE, "done"), (PRUNED, "pruned"), (FAILED, "failed"), (RUNNING, "running"))


@dataclass
class _Slot:
    trial: TrialRecord
    steps: int
    started: float
    step: int = 0
    value: float | None = None


# What decides between trials of equal figures, in this order (`src.records.ties`).
_TIES = "log-loss", "latency", "name"


class Display(Observer):
    """A live area on a terminal; elsewhere lines on trials that ended, and one a minute.

    Without a terminal there is also a line for a trial that begins while no other runs.

    It writes to standard error, since standard output is for results. No error of output ends a
    race: after one nothing more is written. All calls come from one thread; events are only
    recorded, and `tick` draws, at most four times a second.

    Args:
        metric: key of the first metric.
        sets: whether pictures have sets of labels.
        best: the best trial of earlier starts.
        steps: unit of a trial's reports, "epochs" or "folds".
        clock: seconds of a monotonic clock.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        metric: str,
        families: Sequence[str],
        sets: bool = False,
        best: TrialRecord | None = None,
        steps: str = "epochs",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = direct(stream or sys.stderr)
        self._metric = metric
        self._column = metric_name(metric.removeprefix("val/"), sets=sets)  # in short
        self._name = metric_name(metric, sets=sets, folds=steps == "folds")
        self._width = max(map(len, families), default=0) + len("-99")
        self._colors = family_colors(families)
        self._step = steps.removesuffix("s")
        self._clock = clock
        self._slots: dict[int, _Slot] = {}
        self._lengths: dict[int, int] = {}  # steps of the trials that run, by number
        self._best = best
        self._last = Text()
        self._counts: Mapping[str, int] = {}
        self._left = ""
        self._doing, self._doing_since = "", 0.0
        self._drawn = -_REFRESH_SECONDS
        self._printed_at = clock()
        self._gone = False
        self._live: Live | None = None
        if self._stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
            # Other output of this process would disrupt the area; rich prints it above.
            ours = stream is None
            self._live = Live(
                console=Console(file=self._stream, highlight=False, markup=False),
                auto_refresh=False,
                transient=True,
                redirect_stderr=ours,
                redirect_stdout=ours and sys.stdout.isatty(),
            )

    def __enter__(self) -> Display:
        if self._live is not None:
            self._write(self._live.start)
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the live area from the terminal to make place for the result."""
        if self._live is not None:
            self._live.update(Text())
            self._write(self._live.stop)

    def began(self, slot: int, trial: TrialRecord, steps: int) -> None:
        if self._live is None and not self._slots and trial.state == RUNNING:
            self._print(f"{trial.name} begins")
        self._slots[slot] = _Slot(trial, steps, self._clock())
        self._lengths[trial.number] = steps

    def reported(self, slot: int, step: int, metrics: Mapping[str, float]) -> None:
        known = self._slots.get(slot)  # none if the slot is idle by now
        if known is not None and self._metric in metrics:
            known.step, known.value = step, metrics[self._metric]

    def ended(self, slot: int, trial: TrialRecord, best: TrialRecord | None) -> None:
        earlier, self._best = self._best, best
        improved = best is not None and best.number == trial.number
        line = self._ended(trial, _lead(trial, earlier) if improved else "")
        self._last = Text(visible(line), style=_STYLES.get(trial.state, ""))
        if self._live is None:
            self._print(line)

    def freed(self, slot: int) -> None:
        self._slots.pop(slot, None)

    def show(self, text: str) -> None:
        """Write a line that stays, above the live area."""
        self._doing = ""
        live = self._live
        if live is None:
            self._print(text)
        else:
            self._write(lambda: live.console.print(Text(visible_lines(text)), soft_wrap=True))

    def tick(self, counts: Mapping[str, int], left: str) -> None:
        """Draw if it is time to."""
        self._counts, self._left, self._doing = counts, left, ""
        self._tick()

    def doing(self, what: str) -> None:
        """Show the current step until a line is written or a trial runs; see `go_on`."""
        if self._live is None:
            self._print(what)
        self._doing, self._doing_since, self._left = what, self._clock(), ""
        self._drawn = -math.inf
        self.go_on()

    def go_on(self) -> None:
        """Draw again if it is time to, without new information."""
        if self._live is not None:
            self._tick()

    def _tick(self) -> None:
        now = self._clock()
        live = self._live
        if live is None:
            if now - self._printed_at >= _PLAIN_SECONDS:
                self._print(". ".join(filter(None, (self._state(), self._leader(), self._left))))
        elif now - self._drawn >= _REFRESH_SECONDS:
            self._drawn = now
            self._fit(live.console)
            area = self._area(live.console.width, live.console.height, now)
            self._write(lambda: live.update(area, refresh=True))

    def _fit(self, console: Console) -> None:
        """Set the console's size from our stream, since rich asks only the standard streams."""
        try:
            columns, lines = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return
        if columns and lines:
            console.size = ConsoleDimensions(columns, lines)

    def _area(self, width: int, height: int, now: float) -> Group:
        """Return the content of the live area, in no more lines than the terminal has."""
        room = max(1, min(_MAX_SLOTS, height - _LINES_BESIDE_SLOTS))
        busy = sorted(self._slots.items())
        rows = tuple(self._cells(number, slot, now) for number, slot in busy[:room])
        headers = ("slot", "candidate", self._step, self._column, "time", "settings")
        hidden = len(busy) - room
        table = [*map(Text, Table("", headers, rows, _NUMBERS).text(width).splitlines()[1:])]
        for line, (_, slot) in zip(table[1:], busy):
            line.highlight_words([slot.trial.name], self._colors.get(slot.trial.family, ""))
        doing = f"{self._doing} ({duration(now - self._doing_since)} so far)" if self._doing else ""
        lines = [
            *table,
            Text(f"  and {hidden} more" if hidden > 0 else "", style="dim"),
            Text(visible(self._leader()), style="bold"),
            self._last,
            Text(doing or "  ".join(filter(None, (self._state(), self._left)))),
        ]
        lines[0].stylize("dim")
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return Group(*(line for line in lines if line))

    def _cells(self, number: int, slot: _Slot, now: float) -> tuple[str, ...]:
        value = "" if slot.value is None else metric_text(self._metric, slot.value)
        return (
            str(number),
            slot.trial.name,
            f"{slot.step}/{slot.steps}",
            value,
            duration(max(0.0, now - slot.started)),
            settings_text(slot.trial.values),
        )

    def _state(self) -> str:
        counts = [f"{self._counts.get(state, 0)} {name}" for state, name in _COUNTED]
        return ", ".join(counts)

    def _leader(self) -> str:
        if self._best is None:
            return ""
        value = metric_text(self._metric, self._best.value)
        return f"best {self._name} {value}: {self._best.name}"

    def _ended(self, trial: TrialRecord, lead: str) -> str:
        parts = [f"{trial.name:<{self._width}} {trial.ending}"]
        if trial.value is not None and trial.state != FAILED:
            parts.append(f"{self._column} {metric_text(self._metric, trial.value)}")
        # What is fitted in one go reports once, which is no epoch.
        if trial.epochs and self._lengths.pop(trial.number, None) != 1:
            parts.append(f"{trial.epochs} {self._step}{'s' if trial.epochs > 1 else ''}")
        if trial.seconds is not None:
            parts.append(duration(trial.seconds))
        if trial.reason and trial.ending == STOPPED:
            parts.append(trial.reason.rpartition(": ")[2])  # before it stands what is said already
        elif trial.reason and trial.state == FAILED:
            parts.append(one_line(trial.reason))
        if lead:
            parts.append(lead)
        return ", ".join(parts)

    def _print(self, text: str) -> None:
        self._printed_at = self._clock()
        self._write(lambda: print(visible_lines(text), file=self._stream, flush=True))

    def _write(self, write: Callable[[], object]) -> None:
        if self._gone:
            return
        try:
            write()
        except (OSError, ValueError):  # the terminal went away; the race goes on
            self._gone = True


def _lead(best: TrialRecord, earlier: TrialRecord | None) -> str:
    """Return in what a trial is ahead of the one that was the best before it."""
    if earlier is None or earlier.value != best.value:
        return "the best so far"
    direction = "maximize"  # equal figures are equal either way
    places = zip(_TIES, best.place(direction)[1:], earlier.place(direction)[1:], strict=True)
    by = next((name for name, one, other in places if one != other), _TIES[-1])
    return f"level with {earlier.name}, ahead by {by}"
