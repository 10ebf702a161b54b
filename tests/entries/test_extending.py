"""What docs/extending.md shows: the files of docs/extending/, used from outside of the project."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import yaml
from sklearn.datasets import load_digits
from sklearn.metrics import matthews_corrcoef

from src.machine.subprocesses import ROOT, import_environment
from src.records.champions import Champion
from src.records.run import RunSummary
from tests.entries.commands import complete
from tests.entries.conftest import Run
from tests.search.workers.pools import ray_or_skip
from tests.warm_python import WarmPython

EXAMPLES = ROOT / "docs" / "extending"
Start = Callable[..., "subprocess.CompletedProcess[str]"]
# A base class that takes what an optimizer does, and is none.
BASE = "type('Base', (), {'__init__': lambda self, *_: None})"
AUGMENT, DESCRIBE = ("model=mlp", "augment=inverting"), ("model=projections",)
FIT, READ = ("model=handcrafted", "model.classifier=lda"), ("model=mlp", "data=npz")
QUIET = ("tracking=none", "tracking.figures=false", "trainer.max_epochs=1", "runtime=float32")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The examples where a person would have them: anywhere."""
    return Path(shutil.copytree(EXAMPLES, tmp_path / "my plugins"))


@pytest.fixture(params=["folder", "module", "folder on Ray"])
def plugin(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The examples as `plugins=` names them: a folder, or a package that lies on PYTHONPATH."""
    if request.param != "module":
        return str(shutil.copytree(EXAMPLES, tmp_path / "my plugins"))
    package = shutil.copytree(EXAMPLES, tmp_path / "installed" / "gallery")
    modules = sorted(file.stem for file in package.glob("*.py"))
    for file in [*package.glob("*.py"), *package.glob("conf/*/*.yaml")]:
        text = file.read_text()
        for name in modules:  # what a target names is imported from the package
            text = re.sub(rf"(\"|_target_: ){name}\.", rf"\1gallery.{name}.", text)
        file.write_text(text)
    package.joinpath("__init__.py").write_text(f"from . import {', '.join(modules)}\n")
    return "gallery"


@pytest.fixture
def own_data(tmp_path: Path) -> tuple[str, str]:
    """The words for the digits as a file of the examples' own source."""
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    names = np.array([f"digit {k}" for k in digits.target])
    np.savez(tmp_path / "gallery.npz", images=images, labels=names)
    return "data=npz", f"data.root={tmp_path}/gallery.npz"


@pytest.fixture
def start(warm_python: WarmPython) -> Start:
    """`start(place, "train", "seed=1")` types `python -m src.train seed=1` in a folder."""
    environment = os.environ | import_environment()

    def typed(
        place: Path, entry: str, *overrides: str, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return warm_python.run(f"src.{entry}", overrides, environment | variables, place)

    return typed


def summary_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("summary: "))
    return json.loads(Path(line.removeprefix("summary: ")).read_text())


def answers_a_stranger(bundle: Path) -> None:
    """The bundle labels its example where there is neither this project nor a plugin."""
    program = (
        "import sys; sys.path.insert(0, 'code')\n"
        "from pathlib import Path; from PIL import Image; import numpy as np\n"
        "from src.serving.bundle import open_predictor\n"
        "answer = open_predictor(Path('.')).answer([np.array(Image.open('example.png'))])\n"
        "print(answer.sum())\n"
    )
    served = complete([sys.executable, "-I", "-c", program], os.environ, cwd=bundle)
    assert served.returncode == 0, served.stderr
    assert float(served.stdout) == pytest.approx(1, abs=1e-4)


def rewritten(file: Path, old: str, new: str) -> Path:
    """Replace a text that a file of code has."""
    code = file.read_text()
    assert old in code
    file.write_text(code.replace(old, new))
    return file


@pytest.mark.parametrize("by_variable", [False, True])
def test_its_keys_are_typed_and_have_defaults(
    start: Start, folder: Path, by_variable: bool
) -> None:
    named = [] if by_variable else [f"plugins={folder}"]
    overrides = [*named, "model=mixer", "augment=inverting", "--cfg", "job"]
    variables = {"BAKEOFF_PLUGINS": str(folder)} if by_variable else {}
    done = start(folder.parent, "train", *overrides, **variables)
    assert done.returncode == 0, done.stderr
    plain = yaml.safe_load(done.stdout)
    assert plain["model"]["width"] == 64 and plain["model"]["frozen_stages"] == 0
    assert plain["augment"]["invert"] == {"probability": 0.25}


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["model=mixer", "model.width=0"], ["model.width is 0", "at least 1"]),
        (["model=mixer", "model.widht=3"], ["did you mean model.width"]),
        (["model=projections", "model.features=[projektions]"], ["did you mean projections"]),
        (["model=projections", "model.knn.neighbours=3"], ["model.knn", "changes nothing"]),
    ],
)
def test_a_wrong_value_is_named(
    run: Run, folder: Path, overrides: list[str], parts: list[str]
) -> None:
    done = run("src.train", f"plugins={folder}", *overrides, "--cfg", "job")
    assert done.returncode == 2 and all(part in done.stderr for part in parts), done.stderr


def test_what_is_not_named_is_not_imported(folder: Path) -> None:
    (folder / "mixer.py").write_text("raise SystemExit('imported')\n")
    # Not even where the command runs.
    command, environment = [sys.executable, "-m", "src.train"], os.environ | import_environment()
    done = complete([*command, "model=mixer"], environment, cwd=folder)
    assert done.returncode == 2 and "imported" not in done.stderr
    assert "it must be one of cnn" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ('    head_prefixes = ("head.",)\n', "", ["head_prefixes", "Mixer", "mixer.py"]),
        ('("head.",)', '("tail.",)', ["head_prefixes is ('tail.',)", "embed.0.weight"]),
        ("        depth: int,\n", "", ["constructor", "depth"]),
        ("(width, num_classes)", "(width, 3)", ["(2, 3)", "logits (B, num_classes)"]),
        ("class Mixer(nn.Module)", "class Mixer", ["torch.nn.Module"]),
    ],
)
def test_a_network_that_lacks_something_says_what(
    run: Run, folder: Path, tmp_path: Path, old: str, new: str, parts: list[str]
) -> None:
    file = rewritten(folder / "mixer.py", old, new)
    overrides = ("model=mixer", f"output_dir={tmp_path}/out")
    done = run("src.train", f"plugins={folder}", *overrides)
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    assert all(part in done.stderr for part in [*parts, str(file)]), done.stderr


@pytest.mark.parametrize(
    ("part", "old", "new", "said"),
    [
        ("loss=poly", '    link = "softmax"\n', "", "Poly: it fails: AttributeError"),
        ("loss=poly", 'link = "softmax"', 'link = "logit"', "must be softmax, sigmoid or corn"),
        ("loss=poly", 'link = "softmax"', 'link = "sigmoid"', "with data.target=single"),
        ("loss=poly", ", class_weights: Tensor | None", "", "unexpected keyword argument"),
        ("loss=poly", ").sum() / weights.sum()", ")", "which is no scalar"),
        ("optimizer=lion", "(torch.optim.Optimizer)", f"({BASE})", "it returns <lion.Lion"),
        ("optimizer=lion", "parameter.sub_(step, alpha=rate)", "pass", "its step changes nothing"),
        ("optimizer=lion", "loss = closure()", "pass", "its step does not call the closure"),
        ("scheduler=inverse_root", "min((step", "-min((step", "its factors are [-1.0"),
    ],
)
def test_a_part_of_the_training_that_lacks_something_says_what(
    run: Run, folder: Path, tmp_path: Path, part: str, old: str, new: str, said: str
) -> None:
    group, _, name = part.partition("=")
    target = yaml.safe_load((folder / "conf" / group / f"{name}.yaml").read_text())["_target_"]
    file = rewritten(folder / f"{target.partition('.')[0]}.py", old, new)
    still = ["optimizer.weight_decay=0"] if group == "optimizer" else []
    overrides = ("model=mlp", part, *still, f"output_dir={tmp_path}/out")
    done = run("src.train", f"plugins={folder}", *overrides)
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    assert done.stderr.count("\n") <= 2 and "write it as" in done.stderr
    assert f"{group}: {file}" in done.stderr and said in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("options", "file", "old", "new", "said"),
    [
        (AUGMENT, "invert", "return torch", "return 'x' or torch", "it returns str; write"),
        (AUGMENT, "invert", "255 - images, images)", "0, images)[:, :, 1:]", "(4, 3, 31, 32)"),
        (AUGMENT, "invert", "255 - images, images)", "0, images).double()", "torch.float64"),
        (AUGMENT, "invert", "chosen = draws[0]", "chosen = draws[5]", "invert.py, line 34: Ind"),
        (AUGMENT, "invert", "return images", "return images + 1", "with its defaults it changes"),
        (DESCRIBE, "projections", "    bins: int\n", "    bin: int\n", "argument 'bins'"),
        (DESCRIBE, "projections", "(means)", "(means)[next(LENGTHS):]", "with one D for all"),
        (FIT, "lda", "return L", "return None and L", "it returns NoneType, which has no fit"),
        (FIT, "lda", "threads: int, ", "", "argument 'threads'"),
        (READ, "npz", "download: bool", "", "load(root, cache_dir, download, ...)"),
        (READ, "npz", "astype(np.int64)", "astype(float)", "targets are float64, not whole"),
        ((), "matthews", "return float", "return 1 / 0 + float", "matthews.py, line 16: ZeroDiv"),
        ((), "matthews", "return float", "return np.nan * float", "metric mcc of matthews is nan"),
    ],
)
def test_whatever_brings_another_thing_is_named_before_the_training(
    run: Run,
    folder: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    file: str,
    old: str,
    new: str,
    said: str,
) -> None:
    plugin = rewritten(folder / f"{file}.py", old, new)
    if "LENGTHS" in new:
        with plugin.open("a") as code:
            code.write("\nimport itertools\nLENGTHS = itertools.cycle(range(3))\n")
    np.savez(tmp_path / "made.npz", images=np.zeros((20, 1, 8, 8), np.uint8), labels=["a"] * 20)
    overrides = [*options, f"output_dir={tmp_path}/out", "tracking=none"]
    if options == READ:
        overrides.append(f"data.root={tmp_path}/made.npz")
    done = run("src.train", f"plugins={folder}", *overrides)
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and "epoch 1/" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "file", "old", "new", "said"),
    [
        (
            ("model=mixer",),
            "mixer",
            "features = self",
            "features = len(images) > 2 and 1 / 0 or self",
            "mixer.py, line 49: ZeroDivisionError: division by zero",
        ),
        (
            ("model=mlp", "loss=poly"),
            "poly",
            "return (",
            "return logits if len(logits) > 2 else (",
            "loss: poly.Poly returned (",
        ),
        (
            ("model=mlp", "scheduler=inverse_root"),
            "root",
            "return lambda step: ",
            "return lambda step: float('nan') if step > 10 else ",
            "scheduler: root.inverse_root gives nan at step 11 of ",
        ),
        (
            FIT,
            "lda",
            'solver="lsqr"',
            'solver="none"',
            "model.classifier: lda.lda fails: InvalidParameterError: The 'solver' parameter",
        ),
        (
            FIT,
            "lda",
            "    return L",
            "    class Own(LinearDiscriminantAnalysis): ...\n\n    return Own() or L",
            "model.classifier: lda.lda fails: ValueError: ",
        ),
    ],
)
def test_whatever_fails_later_is_named_without_the_frames_of_others(
    start: Start,
    folder: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    file: str,
    old: str,
    new: str,
    said: str,
) -> None:
    code = (folder / f"{file}.py").read_text()
    assert old in code
    (folder / f"{file}.py").write_text(code.replace(old, new))
    quiet = [] if options == FIT else QUIET[1:]
    overrides = [*options, f"output_dir={tmp_path}/out", "tracking=none", *quiet]
    done = start(tmp_path, "train", f"plugins={folder}", *overrides)
    assert done.returncode == 2 and said in done.stderr.splitlines()[-1], done.stderr
    others = [line for line in done.stderr.splitlines() if line.startswith("  File ")]
    assert all(str(folder) in line for line in others)


def test_a_file_with_a_mistake_is_named_with_its_line(run: Run, folder: Path) -> None:
    (folder / "broken.py").write_text("x = 1\ny = 1 / 0\n")
    done = run("src.train", f"plugins={folder}")
    assert done.returncode == 2
    assert f"{folder}/broken.py, line 2" in done.stderr and "ZeroDivisionError" in done.stderr


def test_a_file_named_as_another_module_is_refused(run: Run, folder: Path) -> None:
    (folder / "random.py").write_text("")
    done = run("src.train", f"plugins={folder}")
    assert done.returncode == 2 and "name of another module, random" in done.stderr


@pytest.mark.slow
def test_all_that_trains_a_network_of_ones_own(
    start: Start, folder: Path, own_data: tuple[str, str], tmp_path: Path
) -> None:
    plugins = f"plugins={folder}"
    training = ("optimizer=lion", "scheduler=inverse_root", "loss=poly")
    overrides = ("model=mixer", *own_data, "augment=inverting", *training)
    out = f"output_dir={tmp_path}/out"
    summary = summary_of(start(tmp_path, "train", plugins, *overrides, out, *QUIET))
    run_dir = Path(summary["run_dir"])
    table = pyarrow.parquet.read_table(next(run_dir.glob("predictions/val*.parquet")))
    truth, guesses = table["target"].to_pylist(), table["prediction"].to_pylist()
    expected = matthews_corrcoef(truth, guesses)
    assert summary["metrics"]["val/mcc"] == pytest.approx(expected)
    assert plugins in summary["command"].replace("'", "")

    refused = start(tmp_path, "evaluate", f"run={run_dir}", out)
    assert refused.returncode == 2 and "plugins=FOLDER" in refused.stderr
    again = start(tmp_path, "evaluate", plugins, f"run={run_dir}", "split=val", out)
    assert again.returncode == 0, again.stderr
    accuracy = summary["metrics"]["val/accuracy"]
    said = " ".join(again.stdout.split())
    assert said.startswith(f"accuracy {100 * accuracy:.1f} % (95 % interval")

    bundle = run_dir / "model"
    assert (bundle / "code" / "mixer.py").is_file()
    answers_a_stranger(bundle)
    picture = bundle / "example.png"
    labelled = start(tmp_path, "predict", plugins, f"run={run_dir}", f"images={picture}", out)
    assert labelled.returncode == 0 and "digit" in labelled.stdout, labelled.stderr


@pytest.mark.slow
def test_a_descriptor_and_a_classifier_of_ones_own(
    start: Start, folder: Path, tmp_path: Path
) -> None:
    out = f"output_dir={tmp_path}/out"
    overrides = ("model=projections", "model.projections.bins=6", "tracking=none", out)
    summary = summary_of(start(tmp_path, "train", f"plugins={folder}", *overrides))
    assert summary["metrics"]["val/accuracy"] > 0.85
    labelled = (f"run={summary['run_dir']}", f"images={summary['run_dir']}/model/example.png", out)
    refused = start(tmp_path, "predict", *labelled)
    assert refused.returncode == 2 and "plugins=FOLDER" in refused.stderr
    assert start(tmp_path, "predict", f"plugins={folder}", *labelled).returncode == 0
    lines = f"from src import api; print(api.load({summary['run_dir']!r}, 'plugins={folder}'))"
    loaded = complete([sys.executable, "-c", lines], os.environ | import_environment())
    assert "10 classes" in loaded.stdout, loaded.stderr


@pytest.mark.slow
def test_a_race_says_which_line_of_a_descriptor_of_ones_own_failed(
    start: Start, folder: Path, tmp_path: Path
) -> None:
    raising = "        means = []\n        if grey.mean() > 0.3: raise KeyError('bright')\n"
    file = rewritten(folder / "projections.py", "        means = []\n", raising)
    lines = file.read_text().splitlines()
    number = 1 + next(n for n, line in enumerate(lines) if "'bright'" in line)
    race = ("study=s", "families=[projections]", "budget.trials=1", "finalists=0")
    done = start(tmp_path, "sweep", f"plugins={folder}", *race, "tracking=none")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.endswith(f"the plugin {file}, line {number}: KeyError: 'bright'"), done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_from_a_race_over_them_to_a_champion(
    start: Start,
    plugin: str,
    own_data: tuple[str, str],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    """One of each kind races; what a command prints as the next one is typed as it stands."""
    out, named = f"output_dir={tmp_path}/out", f"plugins={plugin}"
    runs = tmp_path / "out" / "runs"
    quick = (*own_data, "augment=inverting", *QUIET, "runtime.threads=1")
    judged = ("metric=mcc", "pruner=none")  # each trial goes to its end
    engine, on_ray = ["workers=local", "workers.count=1"], "Ray" in request.node.callspec.id
    if on_ray:
        ray_or_skip()
        engine = ["workers=ray", "workers.address=local"]

    def typed(entry: str, *overrides: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(ROOT), str(tmp_path / "installed")])
        return start(tmp_path, entry, *overrides, PYTHONPATH=path)

    def printed(entry: str, *overrides: str) -> str:
        done = typed(entry, *overrides)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def followed(text: str, entry: str, *overrides: str) -> str:
        """Type the command of this entry that a text shows, with these values of its settings."""
        (line,) = re.findall(rf"python -m src\.{entry} (.*)", text)
        changed = {override.partition("=")[0] for override in overrides}
        given = [word for word in shlex.split(line) if word.partition("=")[0] not in changed]
        return printed(entry, *given, *overrides)

    def refused(entry: str, *overrides: str) -> None:
        done = typed(entry, *overrides, out)
        assert done.returncode == 2 and "plugins=" in done.stderr, done.stderr

    raced = ("families=[mixer,projections]", "budget.trials=2", *judged, *engine)
    finals = ("finalists=2", "finalist_seeds=1", *quick)
    verdict = followed(printed("sweep", named, "study=race", *raced, *finals, out), "compare")
    followed(verdict, "select")
    summaries = [RunSummary.read(path / "summary.json") for path in runs.iterdir()]
    assert all("val/mcc" in summary.metrics for summary in summaries)
    found = {summary.model: Path(summary.run_dir).name for summary in summaries}
    assert found.keys() == {"mixer", "projections"}
    if on_ray:
        return  # which has no part in what follows

    trained = summary_of(typed("train", named, "model=mixer", *quick, out))["name"]
    resumed = (f"resume={trained}", "trainer.max_epochs=2")
    refused("train", *resumed)
    assert summary_of(typed("train", named, *resumed, out))["name"] == trained

    for model, name in (("mixer", trained), ("projections", found["projections"])):
        refused("select", f"run={name}", "refit=true")
        printed("select", named, f"run={name}", "refit=true", out)
        champion = Champion.read(tmp_path / "out", "gallery")
        assert champion is not None
        folder = runs / champion.run
        assert RunSummary.read(folder / "summary.json").model == model and champion.run != name
        answers_a_stranger(folder / "model")
        overrides = (f"images={folder}/model/example.png", f"out={tmp_path}/{model}.csv")
        followed((folder / "model_card.md").read_text(), "predict", *overrides)
        refused("export", f"run={champion.run}", "variants=[pt2]")

    chosen = ("variants=[pt2]", "choose=pt2")
    said = typed("export", named, "run=champion", *chosen, out).stderr
    assert "cannot be exported" in said and said.count("plugins=") == 2
    exported = printed("export", named, f"run={trained}", *chosen, out)
    labels = tmp_path / "labels.csv"
    images = f"images={runs / trained}/model/example.png"
    followed(exported, "predict", images, f"out={labels}")
    assert labels.read_text().startswith("path,label")
