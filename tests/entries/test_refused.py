"""Faults of a command's overrides are reported at once, in one sentence, before anything starts."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.entries.commands import ROOT, complaints
from tests.entries.conftest import Run


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("train model=cn", ["model is 'cn'", "cnn"]),
        ("train data=folder 'data.root=/nowhere/to be found'", ["/nowhere/to be found"]),
        ("train data=folder data.root=HERE/empty", ["empty should have at least 2 class folders"]),
        ("train data=folder data.root='\"HERE/one\"'", ["has only one (cat)"]),
        ("train data=folder data.columns=[a]", ["it must be [PATH,LABEL]"]),
        ("sweep data=folder data.root=HERE/one", ["has only one (cat)"]),
        ("train data=folder data.root=abfs://box/pets", ["abfs://box/pets", "pip install adlfs"]),
        ("train model=timm model.name=resnet19", ["resnet19", "resnet18"]),
        ("train trainer.accelerator=gpu", ["accelerator is gpu, but torch sees no GPU"]),
        ("sweep trainer.accelerator=gpu", ["accelerator is gpu, but there is no GPU"]),
        ("train resume=nothing", ["nothing"]),
        ("train model=handcrafted optimizer.lr=0.1", ["optimizer.lr: it changes nothing"]),
        ("evaluate run=nothing", ["nothing"]),
        ("evaluate", ["run is missing"]),
        ("predict run=nothing images=.", ["nothing"]),
        ("predict run=RUN images=HERE/missing", ["does not exist"]),
        ("predict run=RUN images=HERE/a.png explain=true", ["set out=FILE.csv too"]),
        ("predict run=RUN images=HERE/a.png label_next=5", ["set out=FILE.csv too"]),
        ("predict run=RUN images=HERE/a.png variant=int8", ["has no variant int8", "export run="]),
        ("predict run=RUN images=HERE/a.png variant=chosen", ["has not been exported"]),
        (
            "export run=RUN variants=[onyx]",
            ["variants[0] is 'onyx'", "one of onnx, int8, pt2 (did you mean onnx?)"],
        ),
        ("export run=RUN variants=[pt2,pt2]", ["each once"]),
        ("export run=RUN variants=[pt2] choose=int8", ["variants leaves it out"]),
        ("export run=RUN least_equal=1.5", ["at most 1"]),
        ("export run=RUN batch_sizes=[]", ["at least one size"]),
        ("export run=RUN batch_sizes=[0]", ["at least 1"]),
        ("export run=nobody", ["there is no run 'nobody'"]),
        (
            "compare sweep=none output_dir=OUTPUTS",
            ["sweep is 'none': there is no finished sweep of "],
        ),
        ("compare tracking=none", ["this command has no options of it", "tracking.enabled"]),
        ("compare model=cnn", ["model: this command has no such setting"]),
        ("compare part=train", ["part is 'train': it must be one of val, test"]),
        ("select", ["no finished run"]),
        ("select run=nobody", ["there is no run 'nobody'"]),
        ("select chose=winner", ["did you mean choose"]),
        ("select part=test", ["chosen on the test part"]),
        ("select subgroup=camera", ["subgroup: there is no such key"]),
        ("sweep budget.trails=3", ["budget.trails"]),
        ("sweep metric=cost costs=HERE/costs.csv", ["must name the classes of the data, 0, 1, 2"]),
        ("compare output_dir=OUTPUTS metric=cost costs=HERE/device", ["is a device, and no file"]),
        ("compare output_dir=OUTPUTS metric=cost costs=HERE/pipe", ["is a pipe, and no file"]),
        ("train data=folder data.root=HERE/pipe", ["is a pipe, and no file or folder"]),
    ],
)
def test_bad_input_ends_with_2_and_one_sentence(
    run: Run, trained: Path, tmp_path: Path, command: str, parts: list[str]
) -> None:
    here = tmp_path / "here"
    (here / "empty").mkdir(parents=True)
    (here / "one" / "cat").mkdir(parents=True)
    Image.new("L", (9, 9)).save(here / "one" / "cat" / "a.png")
    Image.new("L", (8, 8)).save(here / "a.png")
    (here / "costs.csv").write_text(",cat,dog\ncat,0,1\ndog,5,0\n")
    (here / "device").symlink_to("/dev/zero")
    os.mkfifo(here / "pipe")
    for name, path in {"RUN": trained, "OUTPUTS": trained.parents[1], "HERE": here}.items():
        command = command.replace(name, str(path).replace(" ", "\\ "))
    module, *overrides = shlex.split(command)
    result = run(f"src.{module}", f"output_dir={tmp_path}/out", *overrides)
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stdout == "" or result.stdout.startswith("data: ")
    (sentence,) = complaints(result.stderr)
    assert sentence.startswith("error: ")
    assert all(part in sentence for part in parts), sentence
    assert not (tmp_path / "out").exists(), "a refused command left something behind"


@pytest.mark.parametrize(("entry", "shown"), [("train", "optimizer.lr="), ("compare", "filter=")])
def test_help_imports_nothing_heavy(entry: str, shown: str) -> None:
    heavy = "{'torch', 'mlflow', 'matplotlib', 'sklearn', 'scipy', 'optuna', 'numpy'}"
    code = (
        f"import sys; from src.{entry} import main; sys.argv = ['{entry}', '--help']; main(); "
        f"print(*{heavy} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "" and shown in done.stdout


def _refused_in_turn(lines: list[list[str]]) -> list[tuple[str, str]]:
    """Type commands in a single process, which costs the start of one alone.

    Returns:
        what each prints to standard output, with its exit code and the heavy packages that are
        loaded by then, and to standard error.
    """
    code = (
        "import sys; from importlib import import_module\n"
        f"for line in {lines!r}:\n"
        "    sys.argv = line\n"
        "    code = import_module(f'src.{line[0]}').main()\n"
        "    heavy = {'torch', 'mlflow', 'optuna', 'sklearn'} & set(sys.modules)\n"
        "    print(code, *heavy, end='\\f', flush=True)\n"
        "    print(end='\\f', file=sys.stderr, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    streams = (text.split("\f")[:-1] for text in (done.stdout, done.stderr))
    return list(zip(*streams, strict=True))


@pytest.mark.parametrize("entry", ["train", "sweep"])
def test_what_is_wrong_with_a_folder_is_said_before_anything_heavy_is_loaded(
    entry: str, tmp_path: Path
) -> None:
    (tmp_path / "one" / "cat").mkdir(parents=True)
    Image.new("L", (9, 9)).save(tmp_path / "one" / "cat" / "a.png")
    parts = {
        f"data.root={tmp_path}/one": "has only one (cat)",
        f"data.root={tmp_path}": "at least 2",
        f"data.root={tmp_path}/nowhere": "nowhere",
        "seed=0": "data.root",
    }
    lines = [[entry, "data=folder", given, f"output_dir={tmp_path}/out"] for given in parts]
    for part, (shown, said) in zip(parts.values(), _refused_in_turn(lines), strict=True):
        assert shown == "2" and part in said, said


def test_a_finished_run_is_refused_before_anything_heavy_is_loaded(
    trained: Path, fitted: Path, tmp_path: Path
) -> None:
    places = {"NETWORK": trained, "MOVED": trained, "CLASSIFIER": fitted, "STOPPED": trained}
    copies = {name: tmp_path / "runs" / name.lower() for name in places}
    for name, place in places.items():
        shutil.copytree(place, copies[name])
    summary = copies["STOPPED"] / "summary.json"
    text = summary.read_text().replace('"FINISHED"', '"KILLED"')
    summary.write_text(text.replace('"sealed": true', '"sealed": false'))
    (copies["STOPPED"] / "seal.json").unlink()
    split = copies["NETWORK"] / "split.csv"
    split.write_text(split.read_text().replace("\ntest,", "\ndropped,"))
    config = copies["MOVED"] / "config.yaml"
    config.write_text(config.read_text().replace("\n  root: null", "\n  root: /photos/moved"))
    network, moved, classifier, stopped = copies.values()
    gone, no_end = "which is not there any more", "did not finish"
    cases = [
        (["evaluate", f"run={network}", "split=test"], "set split=train or split=val"),
        (["evaluate", f"run={moved}"], f"{gone}: put the pictures back"),
        (["export", f"run={moved}", "variants=[pt2]"], gone),
        (["train", f"resume={moved}"], f"was trained on /photos/moved, {gone}"),
        (["export", f"run={classifier}"], "it has hand-crafted features"),
        (["evaluate", f"run={stopped}"], no_end),
        (["export", f"run={stopped}"], no_end),
        (["push", f"run={stopped}", f"to={tmp_path}/model"], no_end),
    ]
    lines = [
        [*line, f"output_dir={tmp_path}", *(["changed=use"] if line[0] != "train" else [])]
        for line, _ in cases
    ]
    for (_, part), (shown, said) in zip(cases, _refused_in_turn(lines), strict=True):
        assert shown == "2" and part in said, said
