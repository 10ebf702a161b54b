"""Make a chosen run the champion: refit it, measure it once, describe and register it.

Every step leaves its result in a run's folder and looks there first, so that a command that was
killed is simply given again.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..config.finished import SelectSettings
from ..config.plugins import plugin_overrides
from ..config.tracking import TrackingSwitch
from ..data.sources.costs import CostTable
from ..data.splitting.splits import Split
from ..data.splitting.test_usage import past_test_measurements, refuse_uncountable
from ..machine.package import command, typed
from ..metrics.summary import accuracy_name, metric_key, metric_name
from ..records.certainty import Certainty
from ..records.champions import ALIAS, Champion, champions_folder
from ..records.export import ExportRecord
from ..records.run import Predictions, RunSummary
from ..reporting.formatting import figure_text, primary_text, times_measured
from ..reporting.hub_card import front_matter
from ..reporting.model_card import CardFacts, model_card
from ..runs.candidates.candidate import cost_scores
from ..runs.candidates.choose import load_trained
from ..runs.finished.evaluate import Revisited, measure, reopen, revisit
from ..runs.folder import RunFolder, predict_command, read_json
from ..runs.seal import amending
from ..serving.bundle_files import CERTAINTY, DIGEST, MEMBERS, check_digest
from ..serving.bundle_writing import add_certainty
from ..storage.files import write_atomically
from ..storage.locks import alone
from ..targets import kind_of
from ..tracking.addresses import serve_command
from ..tracking.provenance import command_line
from .calibrate import CalibrationBasis, calibrate, calibration_basis, card_certainty
from .choice import ChosenRun, read_chosen
from .refit import refit

__all__ = ["card_facts", "make_champion", "select"]


def select(chosen: ChosenRun, settings: SelectSettings) -> Champion:
    """Make the chosen run the champion, and print each step.

    Raises:
        ConfigError: the chosen run cannot be used, or another process is at it.
    """
    output_dir = chosen.folder.output_dir
    lock = champions_folder(output_dir) / "lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    # Two could measure the same test part, or refit the same run.
    with alone(lock, f"output_dir: a champion is being chosen in {output_dir}"):
        model = chosen
        if settings.refit and chosen.settings.data.train_on_val:
            print("refit: not needed, the run was trained on the validation part already")
        elif settings.refit:
            refuse_uncountable(output_dir)  # the refit is measured after its training
            folder = refit(chosen.folder, chosen.settings, chosen.summary)
            model = read_chosen(folder, chosen.reasons)
        return make_champion(model, chosen, settings.tracking)


def make_champion(model: ChosenRun, chosen: ChosenRun, place: TrackingSwitch) -> Champion:
    """Measure the test part unless that was done, describe the model, and make it the champion.

    Args:
        model: what becomes the champion.
        chosen: the run that it is a refit of, or the same.
        place: where it is registered, if at all; by default where the run itself is mirrored.
    """
    folder, uri = model.folder, place.uri
    predictions, model = _tested(model, chosen.costs)
    split = Split.read(folder.split)
    count = past_test_measurements(folder.output_dir, split.test_fingerprint)
    digest, certainty = _bundled(folder, calibration_basis(model, chosen, predictions, count))
    if predictions is not None:
        count = max(count, 1)  # the count may have been lost
        figures = _test_figures(model.summary, chosen.measure)
        print(f"test part: {figures}, measured {times_measured(count)}")
    class_names = load_trained(folder.chosen_checkpoint()).metadata["class_names"]
    champion = Champion(model.summary.data, folder.name, folder.run_id, tuple(class_names))
    enabled = place.enabled and (uri is not None or model.settings.tracking.enabled)
    card = folder.model_card
    facts = card_facts(model, chosen, predictions, split, count, certainty)
    serving = _serve_command(champion, model, uri)
    if enabled:
        commands = {**facts.commands, "serve it over HTTP": serving}
        facts = replace(facts, registered=champion.registered_model, commands=commands)
    with amending(folder.path, card.name):
        head = front_matter(model.summary, library="bakeoff", license="unknown")
        write_atomically(card, head + model_card(facts))
    before = Champion.read(folder.output_dir, champion.data)
    # The record comes first: MLflow's alias follows it.
    record = champion.write(folder.output_dir)
    print(f"model card: {card}")
    instead = f", in the place of {before.run}" if before and before.run != folder.name else ""
    print(f"champion of {champion.data}: {folder.name}{instead} ({record})", flush=True)
    if before is not None and (remark := champion.replacement_remark(before)):
        print(f"warning: {typed(remark)}", flush=True)
    version = None
    if place.enabled:
        version = _register(model, chosen, champion, card=card, digest=digest, uri=uri)
    if version is not None:
        print(f"registered: models:/{champion.registered_model}@{ALIAS}, version {version}")
        print(f"serve it: {serving}")
    elif enabled:
        print("not registered yet: repeat the command, or wait for the next run to do it")
    else:
        print("not registered: tracking is off; tracking.uri=sqlite:///FILE.db registers it")
        _warn_of_earlier_version(champion, before, folder)
    name, place_overrides = f"champion:{champion.data}", folder.place_overrides()
    print(f"would more pictures help: {command('scaling', f'run={name}', *place_overrides)}")
    label = predict_command(name, model.settings.data.target, *place_overrides)
    print(f"next: {label}", flush=True)
    return champion


def _warn_of_earlier_version(
    champion: Champion, before: Champion | None, folder: RunFolder
) -> None:
    """Print that the alias in MLflow is still that of the champion before, where it is."""
    if before is None or before.run == folder.name:
        return
    mirror = folder.path.with_name(before.run) / "tracking" / "mirror.json"
    if champion.registered_model in read_json(mirror).get("versions", {}):
        print(
            f"warning: in MLflow, {ALIAS} is still {before.run}: repeat the command with "
            "tracking to change that"
        )


def _register(
    model: ChosenRun,
    chosen: ChosenRun,
    champion: Champion,
    *,
    card: Path,
    digest: str,
    uri: str | None,
) -> str | None:
    """Record it in the run and so in MLflow; return the model's version, if known."""
    folder, summary = model.folder, model.summary
    tracker = reopen(folder, model.settings, summary, uri)
    if chosen.folder != folder:
        tracker.tags({"bakeoff.refit_of": chosen.folder.run_id})
    tested = {key: value for key, value in summary.metrics.items() if key.startswith("test/")}
    tracker.metrics(tested, step=0, final=True)
    if tested:
        tracker.artifact(folder.predictions / "test.parquet", "predictions")
    for figure in sorted(folder.figures.glob("test_*")):
        tracker.artifact(figure, "figures")
    tracker.artifact(card)
    tracker.model(folder.path / "model", digest)
    tracker.register(
        card, name=champion.registered_model, alias=ALIAS, data=champion.data, digest=digest
    )
    if tracked_as := tracker.finish(summary.status, summary.reason):
        _write_summary(folder, replace(summary, run_id=tracked_as))
    return tracker.version(champion.registered_model)


def _tested(model: ChosenRun, costs: CostTable | None) -> tuple[Predictions | None, ChosenRun]:
    """Return its predictions of the test part, measured unless that was done before.

    Its figures have the mean cost of these predictions, where there are costs.
    """
    folder, settings = model.folder, model.settings
    file = folder.predictions / "test.parquet"
    # Killed before it was noted, it is measured anew, which finds the same and is no further look.
    noted = metric_key("test", kind_of(settings.data.target).primary) in model.summary.metrics
    if noted and file.is_file():
        predictions = Predictions.read(file)
        print("test part: measured before, not measured again")
        return predictions, _with_mean_cost(model, predictions, costs)
    if not len(Split.read(folder.split).test):
        print("test part: none, so that no figure is free of selection bias")
        return None, model
    print("test part: measuring", flush=True)
    again = revisit(folder, folder.chosen_checkpoint())
    measured, _ = measure(again, "test")
    _draw(again, measured.predictions)
    model = replace(model, summary=RunSummary.read(folder.summary))
    return measured.predictions, _with_mean_cost(model, measured.predictions, costs)


def _with_mean_cost(model: ChosenRun, tested: Predictions, costs: CostTable | None) -> ChosenRun:
    """Return it with the mean cost of its predictions of the test part among its figures."""
    if costs is None:
        return model
    found = cost_scores(costs.of(tested.class_names), tested)
    known = {metric_key("test", name): value for name, value in found.items()}
    summary = replace(model.summary, metrics=model.summary.metrics | known)
    if summary.metrics != model.summary.metrics:
        _write_summary(model.folder, summary)
    return replace(model, summary=summary)


def _draw(again: Revisited, predictions: Predictions) -> None:
    from ..reporting.run_figures import draw_run_figures

    pictures, maps, folder = again.data.pictures, again.trained.class_maps(), again.folder
    read_mask = pictures.read_mask if kind_of(pictures.kind).pixels else None
    parts = {"test": predictions}
    with amending(folder.path, "figures/test_*"):
        for _ in draw_run_figures(
            folder.figures,
            {},
            parts,
            pictures.read,
            batch=None,
            class_maps=maps,
            read_mask=read_mask,
        ):
            continue


def _write_summary(folder: RunFolder, summary: RunSummary) -> None:
    with amending(folder.path, updated=[folder.summary.name]):
        summary.write(folder.summary)


def _bundled(folder: RunFolder, basis: CalibrationBasis | None) -> tuple[str, Certainty | None]:
    """Return the digest of the run's bundle and its calibration.

    They are written where they are missing, damaged or of an earlier version that erred.
    """
    bundle = folder.path / "model"
    with suppress(OSError, ValueError):
        for place in (bundle, *(bundle / MEMBERS).glob("*/")):
            check_digest(place)
        digest = (bundle / DIGEST).read_text().strip()
        certainty = Certainty.read(bundle / CERTAINTY)
        if certainty is None and basis is None:
            return digest, None
        if certainty is not None and not _is_outdated(certainty, basis):
            looks = 0 if basis is None or basis.source != certainty.source else basis.candidates
            if looks <= certainty.candidates:
                return digest, certainty
            # Its answers are the same, and were looked at by others that were not chosen since.
            certainty = replace(certainty, candidates=looks)
            with amending(folder.path, "model/*"):
                return add_certainty(bundle, certainty), certainty
    if basis is not None:
        count = len(basis.predictions.targets)
        print(
            f"certainty: calibrating on {count:,} held-out pictures ({basis.source}); this takes "
            "seconds, with a large network some minutes",
            flush=True,
        )
    again = revisit(folder, folder.chosen_checkpoint())
    certainty = None if basis is None else calibrate(again, basis)
    example = again.data.pictures.read(int(again.data.split.train[0]))
    with amending(folder.path, "model/*"):
        digest = again.trained.write_bundle(bundle, example)
        if certainty is not None:
            digest = add_certainty(bundle, certainty)
    return digest, certainty


def _is_outdated(certainty: Certainty, basis: CalibrationBasis | None) -> bool:
    """Return whether a calibration is of an earlier version that today's would be better than.

    Such ones took the model itself for one that had held out the pictures of all folds.
    """
    if basis is None:
        return False
    of_folds = basis.refitted and not certainty.refitted and certainty.source != "test"
    return certainty.outdated or of_folds


def card_facts(
    model: ChosenRun,
    chosen: ChosenRun,
    predictions: Predictions | None,
    split: Split,
    count: int,
    certainty: Certainty | None,
) -> CardFacts:
    """Return the content of a model card.

    Args:
        model: the run that is described.
        chosen: the run that it is a refit of, or the same.
        predictions: of the test part; None where that was not measured.
        split: of the run.
        count: measurements of this test part so far.
        certainty: the calibration of the model; None without one.
    """
    folder, data = model.folder, model.settings.data
    metadata = load_trained(folder.chosen_checkpoint()).metadata
    validation = {k: v for k, v in chosen.summary.metrics.items() if k.startswith("val/")}
    parts = {} if predictions is None else {"test": predictions}
    if predictions is None and (own := folder.predictions / "val.parquet").is_file():
        parts = {"val": Predictions.read(own)}
    label = predict_command(str(folder.path), data.target, *plugin_overrides())
    return CardFacts(
        summary=model.summary,
        chosen=None if chosen.folder == folder else chosen.summary,
        reasons=chosen.reasons,
        class_names=metadata["class_names"],
        source=data.root or data.name,
        picture=(*metadata["image_size"], metadata["channels"]),
        parts={part: len(getattr(split, part)) for part in ("train", "val", "test")},
        split_seed=data.split_seed,
        epochs=int(metadata["epochs"]),
        predictions=parts,
        validation=validation,
        test_measurements=count,
        certainty=None if certainty is None else card_certainty(certainty),
        exported=ExportRecord.read(folder.exports / "export.json"),
        provenance=read_json(folder.path / "provenance" / "provenance.json"),
        commands={
            "train it again": model.summary.command,
            "choose and register it again": command_line(),
            "label pictures with it": label,
        },
    )


def _serve_command(champion: Champion, model: ChosenRun, uri: str | None) -> str:
    place = uri or model.settings.tracking.uri
    address = f"models:/{champion.registered_model}@{ALIAS}"
    return serve_command(address, place, model.folder.output_dir)


def _test_figures(summary: RunSummary, measure: str | None) -> str:
    """Return the figures of the test part: of the measure that decided, and what is shown of any.

    Args:
        summary: of the run.
        measure: as of `ChosenRun`.
    """
    metrics, sets = summary.metrics, "test/map" in summary.metrics
    primary, accuracy = primary_text(metrics, "test"), figure_text(metrics, "test/accuracy")
    figures = [primary]
    if measure not in (None, "accuracy") and metric_name(measure) not in (primary or ""):
        found = figure_text(metrics, metric_key("test", measure))
        figures.insert(0, found and f"{metric_name(measure)} {found}")
    if accuracy is not None and any(figures):
        accuracy = f"{accuracy_name(sets)} {accuracy}"
    return "; ".join(filter(None, [*figures, accuracy])) or "not measured"
