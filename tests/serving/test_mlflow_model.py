"""The model of a real run, loaded and served as MLflow does it, far from the checkout."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from src.tracking.addresses import default_uri
from src.tracking.mlflow_store import Store
from src.verification.mlflow_models import verify_models
from tests.data.pictures import claiming, encoded, flip
from tests.serving.conftest import Typed
from tests.serving.served import ask, predicted, same, served, text
from tests.tracking.diary import client
from tests.warm_python import ROOT

pytestmark = pytest.mark.slow

# A program that has a `src` of its own loads the model and asks it.
STRANGER = """
import json, sys
from pathlib import Path
import mlflow, numpy, pandas
from PIL import Image
import src
assert src.MINE
model = mlflow.pyfunc.load_model(sys.argv[1])
files = sorted(Path(sys.argv[2]).iterdir())
table = model.predict(pandas.DataFrame({"image": [f.read_bytes() for f in files]}))
array = numpy.asarray(Image.open(files[0]))
def answers(given):
    return model.predict(given).to_dict("records")
def refusal(value):
    try:
        model.predict([{"image": b""}] if value is None else [{"image": array}, {"image": value}])
    except mlflow.exceptions.MlflowException as error:
        return str(error)
import src
assert src.MINE and "src.serving" not in sys.modules
print(json.dumps({
    "files": [f.name for f in files],
    "table": table.to_dict("records"),
    "array": [*answers([{"image": array}]), *answers({"image": numpy.stack([array] * 3)})],
    "refusals": [refusal(b"text"), refusal(None), refusal(array / 255)],
    "inputs": str(model.metadata.get_input_schema()),
    "outputs": str(model.metadata.get_output_schema()),
    "example": model.metadata.load_input_example(sys.argv[3]).shape,
    "heavy": sorted({"pytorch_lightning", "hydra", "sklearn"} & set(sys.modules)),
}))
"""


@pytest.fixture(scope="module")
def store(trained: Path) -> Store:
    return Store(default_uri(trained.parents[1]))


@pytest.fixture(scope="module")
def logged(trained: Path, store: Store) -> Any:
    """What MLflow has of the run's model: exactly one."""
    run = store.find(json.loads((trained / "run.json").read_text())["run_id"])
    (experiment,) = [e for e in client(store).search_experiments() if e.name == "bakeoff-digits"]
    (model,) = client(store).search_logged_models([experiment.experiment_id])
    assert model.source_run_id == run
    return model


@pytest.fixture(scope="module")
def expected(trained: Path, pictures: Path, typed: Typed) -> dict[str, dict[str, float]]:
    return predicted(typed, trained, pictures)


def test_it_is_one_model_of_the_run_with_all_that_belongs_to_it(
    trained: Path, store: Store, logged: Any
) -> None:
    assert (logged.name, str(logged.status)) == ("model", "READY")
    run = client(store).get_run(logged.source_run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [logged.model_id]
    place = Path(logged.artifact_location.removeprefix("file://").replace("%20", " "))
    files = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    assert {"MLmodel", "mlflow_model.py", "input_example.json", "python_env.yaml"} <= files
    assert not [name for name in files if name.endswith((".pkl", ".pt", ".pth", ".ckpt", ".bin"))]
    pinned = (place / "requirements.txt").read_text().split()
    assert [p.partition("==")[0] for p in pinned] == [
        "mlflow", "torch", "numpy", "pillow", "safetensors"
    ]  # fmt: skip
    example = Image.open(trained / "model" / "example.png")
    assert example.size == (8, 8)


def test_a_program_far_from_the_checkout_gets_the_answers_of_predict(
    logged: Any,
    store: Store,
    pictures: Path,
    expected: dict[str, dict[str, float]],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "__init__.py").write_text("MINE = True\n")
    place = f"models:/{logged.model_id}"
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, place, str(pictures), logged.artifact_location],
        cwd=tmp_path,
        env=environment | {"MLFLOW_TRACKING_URI": store.uri},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert set(said["files"]) == set(expected)
    for name, answer in zip(said["files"], said["table"], strict=True):
        same(answer, expected[name])
    first = said["table"][said["files"].index(sorted(expected)[0])]
    for answer in said["array"]:
        assert answer["probabilities"].keys() == first["probabilities"].keys()
    assert said["array"][1:] == [said["array"][1]] * 3
    same(said["array"][0], said["array"][1]["probabilities"])
    assert "row 1 is no picture" in said["refusals"][0]
    assert "row 0 is empty" in said["refusals"][1]
    assert "row 1 is an array of float64" in said["refusals"][2]
    assert "image" in said["inputs"] and "probabilities" in said["outputs"]
    assert said["example"] == [1, 1] and said["heavy"] == []


@pytest.fixture(scope="module")
def address(
    logged: Any, store: Store, environment: dict[str, str], tmp_path_factory: Any
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("elsewhere")
    with served(f"runs:/{logged.source_run_id}/model", store.uri, environment, folder) as address:
        yield address


def test_over_http_bytes_and_arrays_get_the_answers_of_predict(
    address: str, pictures: Path, expected: dict[str, dict[str, float]]
) -> None:
    files = sorted(pictures.iterdir())
    rows = [[text(file.read_bytes())] for file in files]
    status, answers = ask(address, {"dataframe_split": {"columns": ["image"], "data": rows}})
    assert status == 200, answers
    for file, answer in zip(files, answers, strict=True):
        same(answer, expected[file.name])
    shown = [file for file in files if file.name.startswith("grey")]
    records = [{"image": np.asarray(Image.open(file)).tolist()} for file in shown if _png(file)]
    status, answers = ask(address, {"dataframe_records": records})
    assert status == 200, answers
    for file, answer in zip([f for f in shown if _png(f)], answers, strict=True):
        same(answer, expected[file.name])
    for body in ({"inputs": [{"image": rows[0][0]}]}, {"instances": [{"image": rows[0][0]}]}):
        status, answers = ask(address, body)
        assert status == 200, answers
        same(answers[0], expected[files[0].name])
    status, answers = ask(address, {"inputs": {"image": [row[0] for row in rows]}})
    assert status == 200, answers
    for file, answer in zip(files, answers, strict=True):
        same(answer, expected[file.name])


def _png(file: Path) -> bool:
    return file.suffix == ".png"


def test_what_is_no_picture_is_named_and_the_server_lives(address: str, pictures: Path) -> None:
    good = text((pictures / "grey0.png").read_bytes())
    cut_short = (pictures / "grey3.jpg").read_bytes()[:-300]
    for bad, overrides in (
        (text(b""), "empty (0 bytes)"),
        (text(b"not a picture"), "is no picture"),
        (text(cut_short), "is cut short"),
        (text(claiming(20_000, 20_000)), "100 megapixels"),
        ("no base64!", "is text"),
        (str(ROOT / "pyproject.toml"), "row 1 is"),  # a path is never opened
        ([[0, 300], [1, 2]] * 5, "whole numbers from 0 to 255"),
        (None, "is missing"),
        ({"a": 1}, "dict"),
    ):
        status, said = ask(address, {"dataframe_records": [{"image": good}, {"image": bad}]})
        assert status == 400 and "row 1" in said and overrides in said, (overrides, said)
    assert ask(address, {"dataframe_records": [{"picture": good}]})[0] == 400
    for none in ({"inputs": {"image": []}}, {"instances": []}):
        status, said = ask(address, none)
        assert status == 400 and "image is an empty list" in said and "row" not in said, said
    status, answers = ask(address, {"dataframe_records": [{"image": good}]})
    assert status == 200 and len(answers) == 1


def nested(depth: int) -> bytes:
    return b'{"dataframe_records": [{"image": ' + b"[" * depth + b"]" * depth + b"}]}"


def resident_mb(port: int) -> float:
    """Peak memory of the processes that listen on a port, the parents of none of them."""
    listening = [
        psutil.Process(one.pid)
        for one in psutil.net_connections("tcp")
        if one.laddr.port == port and one.status == psutil.CONN_LISTEN and one.pid
    ]
    assert listening
    return max(
        int(line.split()[1]) / 1e3
        for process in listening
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )


def test_a_hostile_request_is_refused_and_takes_little_memory(address: str, pictures: Path) -> None:
    large = encoded(Image.new("L", (9900, 9900)), "PNG")  # 98 megapixels in some 100 KB
    allowed = encoded(Image.new("RGB", (6300, 6300)), "PNG", compress_level=1)  # 39.7 megapixels
    records = [{"image": text(large)}] * 8
    status, said = ask(address, {"dataframe_records": records})
    assert status == 400 and "98 megapixels; the limit is 40" in said
    status, said = ask(address, {"dataframe_records": [{"image": text(allowed)}] * 8})
    assert status == 200 and len(said) == 8
    port = int(address.split(":")[2].split("/", maxsplit=1)[0])
    if sys.platform == "linux":
        assert resident_mb(port) < 2000
    deep = (nested(5_000), nested(500_000))
    for body in (
        *deep, nested(60), b"", b"{", b"[]", b"null", b"\xff",
        b'{"dataframe_records": [{"image": 1e999}]}',
        b'{"dataframe_split": {"columns": ["image"], "data": [["a"], []]}}',
        b'{"inputs": {"image": [[[0]], [[0, 1]]]}}', b'{"instances": 1}',
    ):  # fmt: skip
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=60)
        answer = refused.value.read().decode()
        assert str(ROOT) not in answer, answer
        if body in deep:  # MLflow's own parser gives up, and says nothing of why
            assert answer == "Internal Server Error"
        else:
            assert 400 <= refused.value.code < 500, (body[:60], answer)
    good = text((pictures / "grey0.png").read_bytes())
    assert ask(address, {"dataframe_records": [{"image": good}]})[0] == 200


def test_a_flipped_bit_in_any_of_its_files_is_named(
    trained: Path, logged: Any, tmp_path: Path
) -> None:
    output_dir = tmp_path / "moved"
    shutil.copytree(trained.parents[1], output_dir)
    place = output_dir / "mlartifacts" / "models" / logged.model_id / "artifacts"
    # Added when it is loaded, and no part of what was packed: MLflow's note of a registration, and
    # what Python compiles.
    files = [
        path
        for path in place.rglob("*")
        if path.is_file() and path.name != "registered_model_meta" and path.suffix != ".pyc"
    ]
    assert place / "MLmodel" in files and [*verify_models(output_dir, repair=False)] == []
    for file in files:
        whole = flip(file)
        assert [fault.place for fault in verify_models(output_dir, repair=False)] == [file]
        file.write_bytes(whole)
    code = place / "mlflow_model.py"
    flip(code)
    weights = place / "artifacts" / "model" / "network.safetensors"
    weights.unlink()
    found = list(verify_models(output_dir, repair=True))
    assert {fault.place for fault in found} == {code, weights}
    assert all(fault.repaired for fault in found)
    assert [*verify_models(output_dir, repair=False)] == []
    (place / "digests.json").unlink()
    (fault,) = verify_models(output_dir, repair=True)
    assert fault.place == place / "digests.json" and not fault.repaired
