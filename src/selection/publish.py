"""Publish a trained model in the layout of the Hugging Face hub: a folder, or a repository."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..config.checks import ConfigError, input_of
from ..config.console import written_to
from ..config.finished import HUB, PushSettings
from ..data.splitting.splits import Split
from ..data.splitting.test_usage import past_test_measurements
from ..machine.package import command
from ..records.certainty import Certainty
from ..records.run import Predictions
from ..reporting.hub_card import front_matter, usage
from ..reporting.model_card import model_card
from ..runs.finished.evaluate import revisit
from ..runs.folder import RunFolder
from ..serving.bundle_files import CERTAINTY, DIGEST, read_metadata
from ..serving.hub_folder import BUNDLE, write_hub_folder
from ..storage.files import temporary_folder, write_atomically
from ..targets import kind_of
from .choice import ChosenRun, read_chosen
from .select import card_facts

__all__ = ["publish"]

_CARD = "README.md"


def publish(folder: RunFolder, settings: PushSettings) -> None:
    """Write or send the files of a run's model, and print where they are and what loads them.

    Nothing is measured: the card has the figures that the run has.

    Raises:
        ConfigError: the run has no model or a damaged one, the place holds something else, or the
            hub refuses it.
    """
    chosen = read_chosen(folder, changed=settings.changed)
    if chosen.settings.cv.is_whole:
        raise ConfigError(
            f"run: {folder.name} is a cross-validation, whose folds have a model each: "
            f"{command('select', f'run={folder.name}', 'refit=true')} trains one to push."
        )
    if settings.to.startswith(HUB):
        name = settings.to.removeprefix(HUB)
        with tempfile.TemporaryDirectory() as place:
            library = _write(chosen, Path(place, "files"), settings, f"hf-hub:{name}")
            address = _send(Path(place, "files"), name, private=settings.private)
        print(f"sent: {address}")
        loads = f"hf-hub:{name}"
    else:
        target = Path(settings.to).absolute()
        with written_to("to", target), _replaced(target) as new:
            library = _write(chosen, new, settings, f"local-dir:{target.name}")
        print(f"written: {target}")
        loads = f"local-dir:{target}"
    if library == "timm":
        print(f'load it: timm.create_model("{loads}", pretrained=True), as {_CARD} shows')
    else:
        print(f"load it: with the code in its folder {BUNDLE}, as {_CARD} shows")


def _write(chosen: ChosenRun, target: Path, settings: PushSettings, address: str) -> str:
    """Write all files; return the library that loads the model."""
    folder = chosen.folder
    with tempfile.TemporaryDirectory() as place:
        bundle = folder.path / "model"
        if not (bundle / DIGEST).is_file():
            bundle = Path(place, "model")
            again = revisit(folder, folder.chosen_checkpoint())
            example = again.data.pictures.read(int(again.data.split.train[0]))
            again.trained.write_bundle(bundle, example)
        with input_of("run"):
            library = write_hub_folder(bundle, target)
    split = Split.read(folder.split)
    file = folder.predictions / "test.parquet"
    predictions = Predictions.read(file) if file.is_file() else None
    count = past_test_measurements(folder.output_dir, split.test_fingerprint)
    certainty = Certainty.read(target / BUNDLE / CERTAINTY)
    facts = card_facts(chosen, chosen, predictions, split, count, certainty)
    # Paths and commands of this machine help nobody elsewhere, and exported files are not sent.
    facts = replace(facts, source=Path(facts.source).name, commands={}, exported=None)
    head = front_matter(chosen.summary, library=library, license=settings.license)
    kind, metadata = kind_of(chosen.settings.data.target), read_metadata(target / BUNDLE)
    use = usage(
        address,
        library,
        BUNDLE,
        pixels=kind.pixels,
        thresholds=metadata.get("thresholds"),
        classes=len(metadata["class_names"]),
    )
    body = model_card(facts, use=use)
    write_atomically(target / _CARD, head + body)
    return library


@contextmanager
def _replaced(target: Path) -> Iterator[Path]:
    """Yield a folder that takes the place of `target`, which must be empty or an earlier push.

    Raises:
        ConfigError: there is something else.
    """
    pushed = (target / BUNDLE / DIGEST).is_file() and (target / _CARD).is_file()
    if target.exists() and not (pushed or (target.is_dir() and not any(target.iterdir()))):
        raise ConfigError(
            f"to: {target} is there and was not written by this command: name a new folder."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(target.parent) as place:
        new, earlier = place / "new", place / "earlier"
        yield new
        if target.exists():
            target.rename(earlier)
        try:
            new.rename(target)
        except BaseException:
            if earlier.exists():  # what leaves the block is removed
                earlier.rename(target)
            raise


def _send(files: Path, name: str, *, private: bool) -> str:
    """Upload the files to a repository, made where it is missing; return its address."""
    from huggingface_hub import HfApi

    hub = HfApi()
    try:
        made = hub.create_repo(name, private=private, exist_ok=True)
        if private and not hub.repo_info(made.repo_id).private:  # it was there before
            raise ConfigError(
                f"private=true, and {HUB}{name} is public: make it private there, or name another."
            )
        hub.upload_folder(
            repo_id=made.repo_id,
            folder_path=files,
            commit_message="A model of Bakeoff with its card",
            delete_patterns="*",  # what an earlier model left would be taken for a part of this one
        )
    except ConfigError:
        raise
    except Exception as error:  # its client has errors of several libraries
        raise ConfigError(f"to: {HUB}{name} could not be written: {_reason(error)}.") from error
    return str(made)


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
