"""The blocks of the pages: commands are where tests find them, and their settings exist."""

from __future__ import annotations

import re
import shlex
from functools import partial
from typing import Any

import pytest

from src.config.command_line import parse, take_config_name
from src.config.compose import compose_settings, expand, groups, with_pictures
from src.config.finished import (
    CompareSettings,
    EvaluateSettings,
    ExportSettings,
    PredictSettings,
    PushSettings,
    ScalingSettings,
    SelectSettings,
    VerifySettings,
)
from src.config.models import WeightsSettings
from src.config.schema import RunSettings
from src.config.sweep import read_sweep_settings
from src.machine.package import ENTRIES
from tests.docs.blocks import PAGES, ROOT, Block, blocks_of, shortened, without_blocks

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
RUN, SHOWN = ("bash", "python"), ("csv", "json", "mermaid", "text", "yaml")
# A command where none is looked for: at the beginning of an indented line.
_LOOSE = re.compile(r"^(?: {4,}|\t)(?:\$ )?(?:python -m |bakeoff |make |mlflow )", re.MULTILINE)
_COMMAND = re.compile(r"(?:python -m src\.(?P<module>[\w.]+)|bakeoff (?P<name>\w+))(?P<words>.*)")
_NAMES = {module: name for name, (module, _) in ENTRIES.items()}
_READERS: dict[str, Any] = {
    "train": partial(compose_settings, RunSettings),
    **{
        name: partial(compose_settings, settings)
        for name, settings in {
            "compare": CompareSettings,
            "evaluate": EvaluateSettings,
            "export": ExportSettings,
            "predict": PredictSettings,
            "push": PushSettings,
            "scaling": ScalingSettings,
            "select": SelectSettings,
            "verify": VerifySettings,
            "weights": WeightsSettings,
        }.items()
    },
}


def commands_of(block: Block) -> list[tuple[str, list[str]]]:
    """Return the entries of this project that a block runs, each with its overrides."""
    found = []
    for line in block.text.replace("\\\n", " ").splitlines():
        if (match := _COMMAND.match(line)) and "completion" not in line:
            name = match["name"] or _NAMES[match["module"]]
            found.append((name, shlex.split(match["words"], comments=True)))
    return found


COMMANDS = [
    pytest.param(name, overrides, id=f"{block.place}-{number}")
    for block in BLOCKS
    if block.language == "bash"
    for number, (name, overrides) in enumerate(commands_of(block))
    if name in (*_READERS, "sweep")
    and not any(override.startswith("plugins=") for override in overrides)
]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_block_is_run_or_shown(block: Block) -> None:
    assert block.language in RUN + SHOWN
    if block.language in SHOWN:
        assert not re.search(
            r"^(?:python -m|make|mlflow models|bakeoff) ", block.text, re.MULTILINE
        )
    assert not block.note or block.skipped or block.port or block.swap, block.note


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_command_stands_outside_of_the_blocks(page: Any) -> None:
    text = without_blocks(page)
    assert not _LOOSE.search(text)
    # A fence or a comment that does not fit is no part of a block.
    assert not re.search(r"^ *(?:```|<!-- test:)", text, re.MULTILINE)


@pytest.mark.parametrize(("name", "overrides"), COMMANDS)
def test_the_settings_of_a_command_are_there(name: str, overrides: list[str]) -> None:
    overrides, sweep = take_config_name(overrides, "default")
    invocation = parse(overrides)
    jobs = expand(invocation.overrides) if invocation.multirun else [invocation.overrides]
    for job in jobs:
        if name in ("sweep", "train"):
            job = with_pictures(job, groups()["data"])
        if name == "sweep":
            read_sweep_settings(job, sweep)
        else:
            _READERS[name](job)


def test_the_commands_of_a_block_are_found() -> None:
    (install, first, *_) = [block for block in BLOCKS if block.page.name == "README.md"]
    assert install.skipped and not commands_of(install)
    assert commands_of(first) == [("sweep", ["study=first"])]
    assert len(COMMANDS) > 30


def test_what_is_run_is_shorter_and_otherwise_the_same() -> None:
    line = "python -m src.sweep study=a \\\n  budget.minutes=10"
    arguments = shortened(line).split()
    assert arguments[:3] == ["python", "-m", "src.sweep"]
    assert arguments[-2:] == ["study=a", "budget.minutes=10"]
    assert {"families=[cnn]", "budget.trials=2"} <= set(arguments)
    assert "families=[cnn]" not in shortened(f"{line} families=[mlp]\n")
    assert shortened("python -m src.train --help\n") == "python -m src.train --help\n"
    assert "trainer.max_epochs=1 model=mlp" in shortened("python -m src.train model=mlp\n")
    assert "max_epochs" not in shortened("python -m src.train model=handcrafted\n")
    assert shortened('bakeoff.sweep("a", minutes=10)\n').endswith(", minutes=10)\n")
