"""Flags, exit codes and messages that all entries share."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import yaml

from src.config.checks import ConfigError, Settings, from_plain, input_of, setting
from src.config.command_line import Invocation, parse, run_entry
from src.config.finished import CompareSettings
from src.config.models import WeightsSettings
from src.config.python_calls import given_overrides
from src.config.tracking import TrackingSwitch
from src.machine.interruption import Interrupted


@dataclass(frozen=True)
class Numbered(Settings):
    seed: int = setting("a number", at_least=0)


def read(overrides: Sequence[str]) -> Numbered:
    (override,) = overrides
    return Numbered(seed=int(override.removeprefix("seed=")))


def refuse(settings: Numbered, overrides: Sequence[str]) -> None:
    raise ConfigError("seed is not to my taste.")


def fail(settings: Numbered, overrides: Sequence[str]) -> None:
    raise ZeroDivisionError("one over nought")


def terminate(settings: Numbered, overrides: Sequence[str]) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def interrupt(settings: Numbered, overrides: Sequence[str]) -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("action", "code"),
    [(lambda s, w: None, 0), (refuse, 2), (fail, 1), (interrupt, 130), (terminate, 143)],
)
def test_exit_codes(action, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_entry("", read, action, argv=["seed=1"]) == code
    error = capsys.readouterr().err
    assert ("Traceback" in error) == (code == 1)
    if code == 2:
        assert error == "error: seed is not to my taste.\n"


def test_a_package_that_is_not_there_is_no_fault_of_the_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def draw(settings: Numbered, overrides: Sequence[str]) -> None:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")

    assert run_entry("", read, draw, argv=["seed=1"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the package matplotlib cannot be loaded ")


@pytest.mark.parametrize("named", ["", "run"])
def test_what_may_not_be_read_is_wrong_input(
    named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "summary.json"
    file.touch()
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != file and may(path, mode))

    def look(settings: Numbered, overrides: Sequence[str]) -> None:
        with input_of(named) if named else nullcontext():
            raise PermissionError(errno.EACCES, "Permission denied", str(file))

    assert run_entry("", read, look, argv=["seed=1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    prefix = f"{named}: " if named else ""
    assert line.startswith(f"error: {prefix}you may not read {file}: ") and line.endswith(".")


def test_the_signal_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run_entry("", read, terminate, argv=["seed=1"])
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize(
    ("flag", "jobs", "error", "code", "done"),
    [
        ("-m", "1,2,-3", ConfigError("no"), 2, []),  # every job is read before the first starts
        ("--multirun", "1,2,3", ConfigError("no"), 2, [1, 2, 3]),
        ("-m", "1,2", Interrupted(signal.SIGINT), 130, [1]),  # who stops one job stops them all
    ],
)
def test_a_failed_job_stops_no_other_and_the_worst_code_is_returned(
    flag: str, jobs: str, error: Exception, code: int, done: list[int]
) -> None:
    seen: list[int] = []

    def act(settings: Numbered, overrides: Sequence[str]) -> None:
        seen.append(settings.seed)
        if settings.seed == 1:
            raise error

    assert run_entry("", read, act, argv=[flag, f"seed={jobs}"]) == code
    assert seen == done


def test_help_names_keys_values_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_entry("Does it.", read, fail, argv=["--help", "seed=5"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Does it.") and "seed=5" in out and "a number" in out


@dataclass(frozen=True)
class Chosen(Settings):
    colour: Literal["red", "blue"] | None = setting("what is mixed", None)
    count: int | Literal["auto"] = setting("how much of it", 3)


def test_help_names_the_values_that_a_setting_is_one_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_entry("", lambda _: Chosen(), fail, argv=["--help"]) == 0
    shown = capsys.readouterr().out
    assert "what is mixed (red, blue)" in shown and "how much of it\n" in shown


def test_jobs_get_the_places_of_pictures_where_data_sets_are_chosen() -> None:
    seen: list[list[str]] = []

    def note(overrides: Sequence[str]) -> Numbered:
        seen.append(list(overrides))
        return Numbered(seed=0)

    argv, names = ["-m", "data=/a,digits", "seed=1"], {"data": ["digits"]}
    assert run_entry("", note, lambda *_: None, argv=argv, choices=lambda: names) == 0
    assert seen == [["data=folder", "data.root=/a", "seed=1"], ["data=digits", "seed=1"]]
    seen.clear()  # `data` of a comparison is the name of a set
    assert run_entry("", note, lambda *_: None, argv=["data=tiles/a"]) == 0
    assert seen == [["data=tiles/a"]]


@pytest.mark.parametrize("width", [60, 70, 100])
def test_help_stays_within_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    to_copy = f"python -m src.compare sweep={'long' * 30}"
    described = f"{'Compare finished runs. ' * 6}\n\n{to_copy}\n"
    weights = WeightsSettings(fetch=[], suggested=[f"network_{k:016}" for k in range(9)])
    for settings in (CompareSettings(tracking=TrackingSwitch()), weights):
        assert run_entry(described, lambda _, shown=settings: shown, fail, argv=["-h"]) == 0
        rows = capsys.readouterr().out.splitlines()
        rows.remove(to_copy)
        assert 0.9 * width < max(map(len, rows)) <= width


def test_cfg_job_prints_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_entry("", read, fail, argv=["--cfg", "job", "seed=5"]) == 0
    assert capsys.readouterr().out == "seed: 5\n"


def test_settings_in_braces_are_read_one_by_one_in_each_job(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given: list[list[str]] = []

    def note(overrides: Sequence[str]) -> Numbered:
        given.append(list(overrides))
        return Numbered(seed=1)

    assert run_entry("", note, lambda *_: None, argv=["-m", "a={b:1,c:x}", "seed=1,2"]) == 0
    assert given == [["a.b=1", "a.c=x", "seed=1"], ["a.b=1", "a.c=x", "seed=2"]]
    assert given_overrides(["a={b:1,c:x}"], {}) == ["a.b=1", "a.c=x"], "nor are they from Python"


@dataclass(frozen=True)
class Placed(Settings):
    run: str = setting("what it is about")
    place: str = setting("where it is", "outputs")


def test_help_and_cfg_job_show_what_must_be_given_as_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def read_placed(overrides: Sequence[str]) -> Placed:
        return from_plain(Placed, dict(override.split("=") for override in overrides))

    assert run_entry("", read_placed, fail, argv=["--cfg", "job", "place=here"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == {"run": "???", "place": "here"}
    assert run_entry("", read_placed, fail, argv=["--help"]) == 0
    assert "run=???" in capsys.readouterr().out
    assert run_entry("", read_placed, fail, argv=[]) == 2
    assert "run is missing: set run=VALUE (what it is about)." in capsys.readouterr().err


@dataclass(frozen=True)
class Further(Placed):
    last: int = setting("what this command alone knows", 3)


def test_help_begins_with_what_must_be_given_and_the_keys_of_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def read_further(overrides: Sequence[str]) -> Further:
        return from_plain(Further, dict(override.split("=") for override in overrides))

    assert run_entry("", read_further, fail, argv=["--help"]) == 0
    shown = [line.split("=")[0].strip() for line in capsys.readouterr().out.splitlines()]
    assert [one for one in shown if one in ("run", "place", "last")] == ["run", "last", "place"]


def test_an_entry_may_refuse_several_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_entry("", read, fail, argv=["-m", "seed=1,2"], no_multirun="one at a time.") == 2
    assert capsys.readouterr().err == "error: one at a time.\n"


@pytest.mark.parametrize("argv", [["--foo"], ["--cfg", "hydra"], ["--cfg"], ["-x", "seed=1"]])
def test_an_unknown_flag_is_refused(argv: list[str]) -> None:
    with pytest.raises(ConfigError):
        parse(argv)
    assert run_entry("", read, fail, argv=argv) == 2


def test_the_long_dash_of_a_document_is_two() -> None:
    assert parse(["\u2014help", "\u2013\u2013multirun", "a=\u2014"]) == Invocation(
        ["a=\u2014"], multirun=True, help=True
    )


def test_a_folder_that_is_gone_is_said_and_not_taken_for_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert run_entry("An entry.", read, lambda *_: None, argv=[]) == 2
    assert "current folder" in capsys.readouterr().err
