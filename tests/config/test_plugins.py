"""Plugins that are named, and what of their code decides whether something kept is the same."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from src.config import checks, metrics
from src.config.augment import OPERATIONS
from src.config.checks import ADDED, ConfigError, extended
from src.config.command_line import run_entry
from src.config.compose import read_run_settings
from src.config.features import CLASSIFIERS, DESCRIPTORS
from src.config.overrides import split_override
from src.config.plugins import fault_text, faulty_line, plugin_folders, take_plugins
from src.metrics.registry import METRICS

_DIGESTS = """
import json
from src.config.plugins import code_digest
print(json.dumps([code_digest("my_plugin.Mine"), code_digest("src.features.Raw", "my_plugin.Mine"),
                  code_digest("src.features.Raw"), code_digest()]))
"""


@pytest.fixture(autouse=True)
def registers_as_before() -> Iterator[None]:
    """What the plugins of a test register goes with it: other tests list all that there is."""
    registers: list[dict[Any, Any]] = [METRICS, metrics._PLUGIN_METRICS, ADDED, checks._VARIANTS]
    registers += [CLASSIFIERS, DESCRIPTORS, OPERATIONS]
    before = [
        {key: dict(one) if isinstance(one, dict) else one for key, one in register.items()}
        for register in registers
    ]
    yield
    for register, kept in zip(registers, before, strict=True):
        register.clear()
        register.update(kept)
    extended.cache_clear()


def digests(plugin: Path) -> list[str]:
    environment = {**os.environ, "BAKEOFF_PLUGINS": str(plugin)}
    command = [sys.executable, "-B", "-c", _DIGESTS]
    found: list[str] = json.loads(subprocess.check_output(command, env=environment, text=True))
    return found


def test_the_code_of_a_plugin_is_told_from_its_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "my_plugin.py").write_text("class Mine: pass\n")
    (tmp_path / "inner").mkdir()
    first = digests(tmp_path)
    assert digests(tmp_path) == first
    assert first[0] and first[1] == first[0] and first[2:] == ["", ""]
    (tmp_path / "my_plugin.py").write_text("class Mine: other = 1\n")
    second = digests(tmp_path)
    (tmp_path / "inner" / "further.py").write_text("VALUE = 1\n")
    third = digests(tmp_path)
    assert len({first[0], second[0], third[0]}) == 3


def test_a_home_that_nobody_has_is_a_folder_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BAKEOFF_PLUGINS", "")  # which is set anew by what is named
    with pytest.raises(ConfigError, match="~nobody-here"):
        take_plugins(["plugins=~nobody-here/plugins"])


def test_code_that_is_written_for_the_installed_package_is_told_the_name_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_PLUGINS", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "bakeoff", None)  # as where only the checkout is
    (tmp_path / "own_net.py").write_text("from bakeoff.config.checks import setting\n")
    with pytest.raises(ConfigError, match=r"own_net\.py, line 1 .*\(write src for bakeoff"):
        take_plugins([f"plugins={tmp_path}"])
    (tmp_path / "own_net.py").write_text("import no_such_module\n")
    with pytest.raises(ConfigError, match=r"no_such_module'\.?$"):
        take_plugins([f"plugins={tmp_path}"])


def test_a_folder_of_search_spaces_alone_is_a_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_PLUGINS", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    own, empty = tmp_path / "own", tmp_path / "empty"
    (own / "sweeps" / "spaces").mkdir(parents=True)
    (own / "sweeps" / "spaces" / "wide.yaml").write_text("words: [model=mlp]\n")
    assert take_plugins([f"plugins={own}", "families=[wide]"]) == ["families=[wide]"]
    assert plugin_folders("sweeps", "spaces") == (own / "sweeps" / "spaces",)
    assert plugin_folders("conf") == ()
    empty.mkdir()
    with pytest.raises(ConfigError, match="neither Python files nor a folder conf/ or sweeps/"):
        take_plugins([f"plugins={empty}"])


_CALLED = """
import json
from src.config.overrides import split_override

def raises(): return 1 + None

def in_a_library(): return json.loads("{")

def calls_back(): return split_override(None)
"""


@pytest.mark.parametrize(
    ("name", "line", "raised"),
    [
        ("raises", 5, TypeError),
        ("in_a_library", 7, json.JSONDecodeError),
        ("calls_back", None, AttributeError),
    ],
)
def test_an_error_is_that_of_the_plugin_whose_code_raised_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    line: int | None,
    raised: type[Exception],
) -> None:
    monkeypatch.setenv("BAKEOFF_PLUGINS", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder, module = tmp_path / name, f"called_{name}"  # a folder is imported once in a process
    folder.mkdir()
    (folder / f"{module}.py").write_text(_CALLED)
    take_plugins([f"plugins={folder}"])
    called = getattr(importlib.import_module(module), name)
    with pytest.raises(raised) as caught:
        called()
    expected = f"{folder / module}.py, line {line}" if line else None
    assert faulty_line(caught.value) == expected
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, fork) as pool, pytest.raises(raised) as remote:
        pool.submit(called).result()
    assert faulty_line(remote.value) == expected
    text = f"{raised.__name__}: {remote.value}"
    assert fault_text(remote.value) == (f"the plugin {expected}: {text}" if expected else text)
    with pytest.raises(AttributeError) as ours:
        split_override(None)  # type: ignore[arg-type]
    assert faulty_line(ours.value) is None


def test_a_command_says_whose_code_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BAKEOFF_PLUGINS", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "whose_code.py").write_text(
        "def divide(): return 1 / 0\ndef fails(): return divide()\n"
    )

    def fail(settings: Any, overrides: Any) -> None:
        importlib.import_module("whose_code").fails()

    assert run_entry("", read_run_settings, fail, argv=[f"plugins={tmp_path}"]) == 2
    shown, error = capsys.readouterr().err.split("error: ")
    text = "ZeroDivisionError: division by zero"
    assert error == f"the plugin {tmp_path}/whose_code.py, line 1: {text}\n"
    # The way to it through the plugin's own code, and no frame of another's.
    frames = [line for line in shown.splitlines() if line.startswith("  File ")]
    assert [line.partition(",")[0] for line in frames] == [f'  File "{tmp_path}/whose_code.py"'] * 2


def test_a_fault_that_a_plugin_may_have_caused_is_not_said_to_be_the_projects_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as by what it returned, of which the project or a library fails later."""
    monkeypatch.setenv("BAKEOFF_PLUGINS", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "without_fault.py").write_text("")

    def fail(settings: Any, overrides: Any) -> None:
        split_override(None)  # type: ignore[arg-type]

    assert run_entry("", read_run_settings, fail, argv=[]) == 1
    assert "error: a fault of Bakeoff, not of your input: Attr" in capsys.readouterr().err
    assert run_entry("", read_run_settings, fail, argv=[f"plugins={tmp_path}"]) == 1
    assert "error: a fault of Bakeoff or of a plugin: Attr" in capsys.readouterr().err


def test_files_of_a_folder_that_import_one_another_as_those_of_a_package_are_told_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_PLUGINS", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "takes_other.py").write_text("from .other import x\n")
    with pytest.raises(ConfigError, match=r"line 1 .* by name: from other import Thing"):
        take_plugins([f"plugins={tmp_path}"])


_FIELDS = "from dataclasses import dataclass\nfrom src.config.checks import Settings, variant\n"
_NET = f"{_FIELDS}from src.config.models import ModelSettings, OwnNetworkSettings\n"
_PART = "\n@dataclass(frozen=True)\nclass Own(Settings):\n    bins: int = 1\n"
_CLASSIFIER = f"{_FIELDS}from src.config.features import classifier\n@classifier"
_METRIC = "from src.config.metrics import metric\n@metric"
_JUDGE = "\ndef judge(probs, targets): return 0.0\n"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys\nsys.exit(0)\n", "line 2 cannot be imported: SystemExit: 0"),
        (f"{_CLASSIFIER}('hog', 'x.Own'){_PART}", "HandcraftedSettings has a field hog already"),
        (f"{_CLASSIFIER}('networks', 'x.Own'){_PART}", "EmbeddingSettings has a field networks"),
        (f"{_CLASSIFIER}('my own', 'x.Own'){_PART}", "'my own' is no name of Python"),
        (f"{_METRIC}('my own', 'maximize'){_JUDGE}", "'my own' is no name of Python"),
        (f"{_METRIC}('own', 'max'){_JUDGE}", "direction is 'max': maximize or minimize"),
        (
            f"{_NET}@variant(ModelSettings, 'x.Own')\nclass Own(OwnNetworkSettings):\n"
            "    depth: int = 1\n",
            r"Own: decorate it with @dataclass\(frozen=True\) below @variant",
        ),
        (
            f"{_NET}@variant(ModelSettings, 'src.models.cnn.CNN')\n@dataclass(frozen=True)\n"
            "class Own(OwnNetworkSettings):\n    depth: int = 1\n",
            r"describes src\.models\.cnn\.CNN already",
        ),
    ],
)
def test_a_file_that_registers_what_it_must_not_is_refused_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    monkeypatch.setenv("BAKEOFF_PLUGINS", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    file = tmp_path / f"own_{tmp_path.name}.py"  # a module is imported once in a process
    file.write_text(code)
    with pytest.raises(ConfigError, match=f"{file.name}.*{message}"):
        take_plugins([f"plugins={tmp_path}"])


@pytest.mark.parametrize(
    "taken", ["conf/optimizer/adamw.yaml", "sweeps/spaces/cnn.yaml", "optimizer/adamw.yaml"]
)
def test_a_file_that_the_projects_own_would_hide_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: str
) -> None:
    monkeypatch.setenv("BAKEOFF_PLUGINS", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    file = tmp_path / taken
    file.parent.mkdir(parents=True)
    file.write_text("name: own\n")
    with pytest.raises(ConfigError, match=rf"{taken} has the name of a file of this project"):
        take_plugins([f"plugins={tmp_path}"])
    file.rename(file.with_stem("own"))
    take_plugins([f"plugins={tmp_path}"])


def test_a_target_in_a_plugin_that_no_settings_describe_is_said_to_be_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_PLUGINS", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "undescribed.py").write_text("class Own: ...\n")
    take_plugins([f"plugins={tmp_path}"])
    overrides = ["model=cnn", "model._target_=undescribed.Own"]
    with pytest.raises(ConfigError, match=r"no settings describe.* @variant\(ModelSettings, \""):
        read_run_settings(overrides)


def test_a_type_of_a_field_that_is_not_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_PLUGINS", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "untyped.py").write_text(
        f"from __future__ import annotations\n{_NET}"
        "@variant(ModelSettings, 'untyped.Own')\n@dataclass(frozen=True)\n"
        "class OwnSettings(OwnNetworkSettings):\n    kind: Literal['a'] = 'a'\n"
    )
    take_plugins([f"plugins={tmp_path}"])
    with pytest.raises(ConfigError, match=r"untyped\.OwnSettings: .*'Literal' is not defined"):
        read_run_settings(["model=cnn", "model._target_=untyped.Own"])


_EACH_KIND = f"""{_FIELDS}
from src.config.features import classifier
from src.config.metrics import metric
from src.config.models import ModelSettings, OwnNetworkSettings

@metric("{{name}}", "maximize")
def judge(probs, targets): return 0.0

@classifier("{{name}}", "{{name}}.Own")
@dataclass(frozen=True)
class Own(Settings):
    bins: int = 1

@variant(ModelSettings, "{{name}}.Net")
@dataclass(frozen=True)
class NetSettings(OwnNetworkSettings):
    depth: int = 1
"""


def test_in_one_process_a_plugin_that_failed_is_forgotten_and_once_mended_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a notebook, where a wrong name must not need a new kernel."""
    monkeypatch.setenv("BAKEOFF_PLUGINS", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ConfigError, match="there is no folder"):
        take_plugins([f"plugins={tmp_path}/absent"])
    assert take_plugins(["seed=1"]) == ["seed=1"]
    file, code = tmp_path / "failed_once.py", _EACH_KIND.format(name="failed_once")
    file.write_text(f"{code}1 / 0\n")
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        take_plugins([f"plugins={tmp_path}"])
    read_run_settings(["model=handcrafted"])  # whose class has the classifier by now
    file.write_text(f"{code}mended = True\n")
    take_plugins([f"plugins={tmp_path}"])
    assert importlib.import_module("failed_once").mended


@pytest.mark.parametrize("gone", [False, True])
def test_a_file_that_was_changed_after_its_import_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    """The old code would run here, and the new one in the workers of a race."""
    monkeypatch.setenv("BAKEOFF_PLUGINS", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    file = tmp_path / f"changes_{gone}.py"
    file.write_text("depth = 1\n")
    take_plugins([f"plugins={tmp_path}"])
    take_plugins([])
    file.unlink() if gone else file.write_text("depth = 2\n")
    with pytest.raises(ConfigError, match=rf"{file.name} was changed after it was imported"):
        take_plugins([])
    file.write_text("depth = 1\n")
    take_plugins([])


def test_a_file_that_python_cannot_import_is_passed_over_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("BAKEOFF_PLUGINS", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "importable.py").write_text("")
    take_plugins([f"plugins={tmp_path}"])
    assert not caplog.records
    (tmp_path / "my-network.py").write_text("1 / 0\n")
    take_plugins([f"plugins={tmp_path}"])
    (record,) = caplog.records
    assert f"{tmp_path / 'my-network.py'} is passed over" in record.getMessage()
