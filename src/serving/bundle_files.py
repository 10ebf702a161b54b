"""Bundles: a trained model as a folder that can be served without a checkout.

    network.safetensors   a network's weights, and no code; or
    network.onnx, .pt2    an exported network, with its normalisation; or
    classifier.skops      a classifier on features, with the networks that compute them; or
    members/0, 1, ...     of an ensemble: a bundle per member, without the code
    passport.json         metadata: class names, picture size, settings; of a network, how it is
                          built, of an ensemble, how probabilities are combined
    code/                 the modules that decode, build and predict, as they were when written,
                          with those of the plugins that the model is made of
    certainty.npz         the model's answers on calibration pictures, for a champion; no code
    requirements.txt      the packages that these import, in the versions of that moment
    example.png           a picture to try; of other than grey or colour, example.npy
    digest.txt            of the files above but the example, written last: a bundle with it is
                          complete

`mlflow_model.py` among the code makes it an MLflow model. The metadata keep the file name of
earlier bundles, so that every version reads them all.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..storage.digests import file_digest, line_content
from ..storage.files import write_atomically
from .exported import ONNX_FILE, PT2_FILE

__all__ = [
    "CERTAINTY",
    "CLASSIFIER",
    "CODE",
    "DIGEST",
    "DIGESTS",
    "MEMBERS",
    "METADATA",
    "REQUIREMENTS",
    "WEIGHTS",
    "check_digest",
    "check_packed",
    "model_file",
    "read_metadata",
    "write_digest",
]

WEIGHTS = "network.safetensors"
CLASSIFIER = "classifier.skops"
MEMBERS = "members"
DIGESTS = "members/digests.txt"
METADATA = "passport.json"
DIGEST = "digest.txt"
CODE = "code"
REQUIREMENTS = "requirements.txt"
CERTAINTY = "certainty.npz"
# As `tracking.logged_models` calls the folder of a bundle, and the digests of all files around it.
_PACKED = "artifacts"
_PACKED_DIGESTS = "digests.json"


def read_metadata(folder: Path) -> dict[str, Any]:
    """Return the metadata of a bundle.

    Raises:
        ValueError: its file is not there, or damaged.
    """
    try:
        metadata: dict[str, Any] = json.loads((folder / METADATA).read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} has no readable {METADATA}: {error}") from error
    return metadata


def model_file(folder: Path) -> str:
    """Return the name of the file that holds a bundle's model.

    Raises:
        FileNotFoundError: there is none.
    """
    files = (WEIGHTS, ONNX_FILE, PT2_FILE, CLASSIFIER, DIGESTS)
    found = next((name for name in files if (folder / name).is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{folder} holds no model, none of {', '.join(files)}")
    return found


def write_digest(folder: Path) -> str:
    """Write the digest of a bundle, which makes it complete, and return it."""
    digest = _digest(folder, model_file(folder))
    write_atomically(folder / DIGEST, f"{digest}\n")
    return digest


def check_digest(folder: Path) -> None:
    """Raise a ValueError unless the digest is that of the bundle's files.

    What Python has compiled of its code is removed: it has no digest, and would be run unseen.
    """
    for compiled in (folder / CODE).rglob("__pycache__"):
        shutil.rmtree(compiled, ignore_errors=True)
    try:
        stated = (folder / DIGEST).read_text().strip()
        model = model_file(folder)
        found = _digest(folder, model)
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} is no whole bundle: {error!r}") from error
    if stated != found:
        raise ValueError(
            f"{folder} is damaged: {model}, {METADATA}, {CERTAINTY} or the code is not what "
            f"{DIGEST} was written for; write the bundle anew, or put a copy of it back"
        )


def check_packed(bundle: Path) -> None:
    """Raise a ValueError unless MLflow's files around a bundle are what was packed.

    The bundle is left out, which has a digest of its own.
    """
    model = bundle.parents[1]
    digests = model / _PACKED_DIGESTS
    try:
        files = line_content(digests.read_bytes(), strict=True)["files"]
        changed = [
            name
            for name, digest in files.items()
            if not name.startswith(f"{_PACKED}/") and file_digest(model / name) != digest
        ]
    except FileNotFoundError as error:
        raise ValueError(f"{error.filename} is gone: log the model anew") from error
    except (OSError, ValueError, LookupError, AttributeError) as error:
        raise ValueError(f"{digests} cannot be read: {error}") from error
    if changed:
        raise ValueError(
            f"{', '.join(changed)} in {model} is not what was packed; put a copy of it back, or "
            "log the model anew (verify with repair=true has one of the code)"
        )


def _digest(folder: Path, model: str) -> str:
    with (folder / model).open("rb") as file:
        hashed = hashlib.file_digest(file, "sha256")
    code = sorted((folder / CODE).rglob("*.py"))
    for path in (folder / METADATA, folder / CERTAINTY, folder / REQUIREMENTS, *code):
        with suppress(FileNotFoundError):
            content = path.read_bytes()
            hashed.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
            hashed.update(content)
    return hashed.hexdigest()
