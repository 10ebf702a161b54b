"""Every file under sweeps/ makes a sweep that could begin, and what makes none is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from src.config.checks import ConfigError
from src.config.compose import SWEEPS, groups, read_run_settings
from src.config.sweep import SweepSettings, base_overrides, read_sweep_settings
from src.metrics.summary import metric_name
from src.search.samplers import check_sampler
from src.search.space import Family, Value
from src.sweeps import families as spaces
from src.sweeps.families import default_values, load_families, trial_overrides
from src.sweeps.study_pictures import choose_families
from src.sweeps.sweep_study import metric_line

BASE = ["data=digits", "trainer.max_epochs=9", "optimizer.lr=0.01", "runtime.threads=1"]
NAMES = sorted(path.stem for path in SWEEPS.glob("*.yaml"))
FAMILIES = sorted(path.stem for path in (SWEEPS / "spaces").glob("*.yaml"))
GROUPS = ["pruner", "sampler", "workers"]
OPTIONS = [(group, option) for group in GROUPS for option in groups(SWEEPS)[group]]


def ready(name: str, *overrides: str) -> tuple[SweepSettings, list[Family]]:
    """A sweep up to its first trial, as `run_sweep` reads it."""
    settings = read_sweep_settings(overrides, name)
    if isinstance(settings.families, str):
        settings = replace(settings, families=list(choose_families(settings).names))
    found = load_families(settings.families, base_overrides(overrides, name), settings.search)
    check_sampler(settings.sampler.name, found, len(settings.metrics))
    return settings, found


@pytest.mark.parametrize("name", NAMES)
def test_every_sweep_could_begin(name: str) -> None:
    settings, found = ready(name)
    assert settings.study == (name if name != "default" else settings.data.name)
    assert [family.name for family in found] == settings.families
    assert all(family.parameters for family in found)
    text = (SWEEPS / f"{name}.yaml").read_text()
    assert text.startswith("# ") and "# Command: " in text, "it tells what it is and how to run it"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_familys_own_configuration_is_one_of_its_space(family: str) -> None:
    (found,) = load_families([family], [])
    own = default_values(found, [])
    assert found.stored_values(own).keys()
    known = {**found.constants, **own}
    overrides = trial_overrides(
        found, [], {p.key: own[p.key] for p in found.parameters if p.applies(known)}
    )
    assert read_run_settings(overrides) == read_run_settings(found.overrides)
    assert (SWEEPS / "spaces" / f"{family}.yaml").read_text().startswith("# ")


@pytest.mark.parametrize(("weights", "searched"), [("package", True), ("null", False)])
def test_a_shared_key_that_changes_nothing_is_not_searched(weights: str, searched: bool) -> None:
    (found,) = load_families(["unet"], [f"model.pretrained={weights}", "model.encoder=resnet18"])
    assert ("model.freeze_norm" in {one.key for one in found.parameters}) is searched


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_is_one_that_the_settings_take(group: str, option: str) -> None:
    path = SWEEPS / group / f"{option}.yaml"
    assert path.read_text().startswith("# ")
    overrides = [f"{group}={option}"]
    if group == "sampler" and option == "nsga2":
        overrides += ["metric=[val/accuracy,cost/parameters]", "pruner=none"]
    if option == "wilcoxon":
        overrides += ["cv.folds=5"]
    settings = read_sweep_settings(overrides, "default")
    plain = yaml.safe_load(path.read_text())
    chosen = getattr(settings, group)
    assert {key: getattr(chosen, key) for key in plain} == plain


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["budget.trails=3"], r"budget.trails: there is no such key \(did you mean budget.trials"),
        (["trainer.max_epoch=3"], r"trainer.max_epoch: there is no such key \(did you mean"),
        (["budget.trials=0"], "budget.trials is 0"),
        (["budget.trials=null", "budget.minutes=null"], "minutes and epochs are all null"),
        (["families=[mpl]"], "families: there is no mpl: .*did you mean mlp"),
        (["families=[]"], "families is .*: name at least one"),
        (["families=[mlp,mlp]"], "one is named twice"),
        (["metric=val/acuracy"], r"it must be one of auto, accuracy,.*did you mean accuracy\?"),
        (["metric=roc_auc"], r"it must be one of auto, accuracy,.*did you mean auc\?"),
        (["metric=test/accuracy"], "metric is .*: it must be one of auto, accuracy"),
        (
            ["metric=[val/accuracy,cost/parameters]", "pruner=asha"],
            "set pruner=none, for no pruner can judge",
        ),
        (
            ["metric=cost/latency_ms", "pruner=asha"],
            r"end of a trial only: .* one of accuracy, macro_f1, .*, calibration_error\.$",
        ),
        (["metric=cost"], "metric=cost and costs=FILE.csv go together"),
        (["costs=costs.csv"], "metric=cost and costs=FILE.csv go together"),
        (
            ["metric=auc", "trainer.monitor=val/loss", "pruner=median"],
            r"end of a trial only: .*leave out trainer\.monitor, which is loss\.$",
        ),
        (["sampler=tep"], "sampler is 'tep': it must be one of .*did you mean tpe"),
        (["pruner=asah"], "pruner is 'asah': it must be one of .*did you mean asha"),
        (["sampler=cmaes", "families=[mlp]"], "sampler=cmaes takes a single family whose keys"),
        (["sampler=grid", "families=[mlp,cnn]"], "sampler=grid takes a single family"),
        (
            [
                "sampler=gp",
                "metric=[val/accuracy,cost/parameters]",
                "pruner=none",
                "families=[mlp]",
            ],
            "takes one metr",
        ),
        (["search=[modle.*]", "families=[mlp]"], "no key of these families matches"),
        (["model=cnn"], r"model=cnn: the families decide the model; set families=\[cnn\]"),
        (["resume=outputs/runs/x"], "resume: the same command goes on with an unfinished study"),
        (["study='a/b'"], "it must be letters, digits.*, such as a_b"),
        (["study='Röcke 2'"], "such as Röcke_2"),
        (["study=" + "猫" * 34], f"100 bytes of UTF-8 at most, such as {'猫' * 33}[.]"),
        (["study=👟"], "100 bytes of UTF-8 at most[.]"),
        (["model.hidden=[1,2", "families=[mlp]"], r"^'model\.hidden=\[1,2' has no closing"),
        (["model.widht=3", "families=[mlp]"], "model.widht: there is no such key"),
        (["optimizer=lion"], "optimizer is 'lion': it must be one of"),
        (["failure_limit=2"], "failure_limit is 2"),
        (["cv.folds=5"], "pruner is asha, which .* epoch by epoch.*: set pruner=wilcoxon or"),
        (["cv.folds=5", "pruner=median"], "pruner is median, which compares .* epoch by epoch"),
        (["pruner=wilcoxon"], "which compares trials fold by fold: set cv.folds=5"),
        (["pruner=wilcoxon", "cv.folds=5", "cv.fold=2"], "which compares trials fold by fold"),
        (["pruner=wilcoxon", "cv.folds=4"], r"0\.1, which 4 folds cannot .*p_threshold=0\.25, mo"),
        (["pruner=wilcoxon", "cv.folds=2"], "for which 2 folds are too few: set pruner=none"),
        (["pruner=none", "cv.folds=2", "trainer.devices=2"], "on one device"),
        (["pruner=none", "pruner.min_epochs=3"], "min_epochs: pruner=none does not use it: leave"),
        (["pruner=none", "pruner.across_families=true"], "across_families: pruner=none does not"),
        (["pruner=median", "pruner.reduction_factor=9"], "set pruner=asha or pruner=hyperband"),
        (["pruner.p_threshold=0.01"], "p_threshold: pruner=asha .*, or set pruner=wilcoxon"),
        (["sampler=random", "sampler.startup_trials=5"], "startup_trials: sampler=random does not"),
        (["workers.address=10.0.0.1:6379"], "address: workers=local does not.* workers=ray"),
        (["finalists=0", "finalist_seeds=3"], "finalist_seeds: finalists=0 does not use it"),
        (["finalists=0", "extra_trainings=6"], "extra_trainings: finalists=0 does not use it"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_overrides_are_refused_in_a_sentence(overrides: list[str], message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message) as told:
        ready("default", *overrides)
    assert "\n" not in str(told.value)


def test_a_sweep_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match=r"there is no sweeps/fashon.yaml.*did you mean fashion"):
        ready("fashon")


def test_folds_and_their_pruner_reach_the_trials() -> None:
    overrides = ["pruner=wilcoxon", "cv.folds=3", "cv.repeats=2", "metric=val/macro_f1"]
    settings, _ = ready("default", *overrides)
    assert settings.cv.count == 6 and settings.pruner.across_families
    assert {"cv.folds=3", "cv.repeats=2"} <= set(base_overrides(overrides, "default"))
    ready("default", "pruner=wilcoxon", "cv.folds=4", "pruner.p_threshold=0.25", "families=[mlp]")


@pytest.fixture
def own_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of a family's space, to be written by the test."""
    (tmp_path / "shared").mkdir()
    monkeypatch.setattr(spaces, "_SPACES", tmp_path)
    return tmp_path / "mine.yaml"


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("{model.widht: {low: 1, high: 2}}", "model.widht: there is no such key"),
        ("{model.dropout: {low: 0.0, high: 1.5}}", "the space does not fit the config: .*dropout"),
        ("{model.hidden: {choices: [[0]]}}", "hidden"),
        ("{model.dropout: {low: 0.5, high: 0.9}}", "model.dropout: .* does not lie in 0.5 to 0.9"),
        ("{optimizer: {choices: [muon, lion]}}", "optimizer: there is no lion"),
        ("{model.dropout: 0.5}", "model.dropout is 0.5: it must be choices, or low and high"),
        ("[a]", "space must hold keys"),
        ("{}\nspaces: {}", "spaces: there is no such key"),
        ("{}\nuse: [trainign]", "use names trainign, but there is no"),
        ("{}\nwords: [model=mpl]", "model is 'mpl'"),
        (None, "it must hold keys with values"),
        ("[", "it is no YAML"),
    ],
)
def test_a_file_that_is_no_space_or_does_not_fit_is_refused(
    own_space: Path, space: str | None, message: str
) -> None:
    content = "- a" if space is None else f"words: [model=mlp]\nspace: {space}"
    own_space.write_text(f"{content}\n")
    with pytest.raises(ConfigError, match=rf"sweeps/spaces/mine.yaml: .*{message}"):
        load_families(["mine"], [])


@pytest.mark.parametrize(
    ("families", "stated", "message"),
    [
        (["mlp", "cnn"], "model.x=2", r"^model\.x: there is no such key.* \(family mlp\)\.$"),
        (["cnn", "vit"], "model.width=96", r"^model\.width: .*\(family cnn; it suits .*=\[vit\]\)"),
        (["vit"], "model.width=128", r"^model\.width is 128: .* multiple of heads"),
        (["mlp"], "model.dropout=7", r"^model\.dropout is 7\.0: .*\(family mlp\)\.$"),
    ],
)
def test_a_stated_setting_is_no_fault_of_a_file(
    families: list[str], stated: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_families(families, [*BASE, stated])


TURNED = "augment.rotate_degrees: {low: 0.0, high: 30.0}"
WHEN = "augment.rotate_degrees: {when: {augment: strong}, low: 5.0, high: 30.0}"


@pytest.mark.parametrize(
    ("space", "base", "fits"),
    [
        (TURNED, [], False),
        (TURNED, ["augment=strong"], True),
        (f"{TURNED}, augment.warp_probability: {{low: 0.0, high: 1.0}}", [], True),
        (f"{TURNED}, augment: {{choices: [strong, none]}}", ["augment=strong"], True),
        (f"{TURNED}, augment: {{choices: [strong, none]}}", [], False),
        (f"{WHEN}, augment: {{choices: [light, strong]}}", [], True),
    ],
)
def test_a_space_whose_values_would_change_nothing_is_refused_before_the_first_trial(
    own_space: Path, space: str, base: list[str], fits: bool
) -> None:
    overrides = "[model=mlp, augment=strong]" if "none" in space else "[model=mlp]"
    own_space.write_text(f"words: {overrides}\nspace: {{{space}}}\n")
    if not fits:
        with pytest.raises(ConfigError, match="rotate_degrees: it changes nothing without"):
            load_families(["mine"], base)
        return
    (family,) = load_families(["mine"], base)
    for values in spaces._corners(family, default_values(family, base)):
        read_run_settings(trial_overrides(family, base, values))


SIZES = "{data.image_size: {choices: [32, 64]}}"


def test_sizes_of_pictures_are_searched_where_the_family_has_one_of_them(own_space: Path) -> None:
    own_space.write_text(f"words: [model=mlp]\nspace: {SIZES}\n")
    with pytest.raises(ConfigError, match=r"image_size: null is none of 32, 64.* in words"):
        load_families(["mine"], [])
    own_space.write_text(f"words: [model=mlp, data.image_size=32]\nspace: {SIZES}\n")
    (family,) = load_families(["mine"], [])
    assert default_values(family, []) == {"data.image_size": 32}
    assert spaces.trial_variants(family) == [{"data.image_size": 32}, {"data.image_size": 64}]
    larger = trial_overrides(family, [], {"data.image_size": 64})
    assert larger == ["model=mlp", "data.image_size=64"]
    assert read_run_settings(larger).data.image_size == 64
    # Of pixels, figures at several sizes are of several tasks, unless windows go over the whole.
    own_space.write_text(f"words: [model=fcn, data.image_size=32]\nspace: {SIZES}\n")
    with pytest.raises(ConfigError, match="several sizes do not compare"):
        load_families(["mine"], ["data.target=dense"])


def test_what_the_person_fixes_is_not_searched() -> None:
    def searched(*base: str, **arguments: list[str]) -> set[str]:
        (family,) = load_families(["mlp"], base, **arguments)
        return {parameter.key for parameter in family.parameters}

    everything = searched()
    assert "optimizer.momentum" in everything and "model.hidden" in everything
    assert searched("model.dropout=0.1") == everything - {"model.dropout"}
    fixed = searched("optimizer=adamw")
    assert fixed == everything - {"optimizer", "optimizer.momentum"}
    assert searched(search=["model.*"]) == {k for k in everything if k.startswith("model.")}
    values: dict[str, Value] = default_values(
        load_families(["mlp"], ["optimizer=sgd"])[0], ["optimizer=sgd"]
    )
    assert "optimizer.momentum" in values


@pytest.mark.parametrize("name", ["handcrafted", "embedding"])
def test_what_is_about_networks_is_not_said_to_others(name: str) -> None:
    families = load_families([name, "mlp"], BASE)
    overrides = [trial_overrides(family, BASE, {}) for family in families]
    assert overrides[0] == [f"model={name}", "data=digits", "runtime.threads=1"]
    assert overrides[1] == ["model=mlp", *BASE]


@pytest.mark.parametrize("name", ["pixels", "unet", "fcn"])
def test_what_the_family_and_the_sweep_both_state_is_there_once(name: str) -> None:
    base = [*BASE, "data.target=dense", "loss=dice"]
    (family,) = load_families([name], base)
    overrides = trial_overrides(family, base, {})
    keys = [override.partition("=")[0] for override in overrides]
    assert len(set(keys)) == len(keys) and "data.target=dense" in overrides
    assert ("loss=dice" in overrides) == (name != "pixels")


@pytest.mark.parametrize("name", ["handcrafted", "embedding"])
def test_the_default_lies_within_the_space(name: str) -> None:
    (family,) = load_families([name], BASE)
    usual = {"handcrafted": "rbf_svm", "embedding": "auto"}
    assert default_values(family, BASE)["model.classifier"] == usual[name]
    (narrow,) = load_families([name], [*BASE, "model.classifier=knn"])
    assert {p.key for p in narrow.parameters} & {"model.rbf_svm.gamma"} == set()


def test_a_network_of_a_library_is_a_family_by_its_own_name() -> None:
    tuned, packaged = load_families(["resnet18", "efficientnet_lite0"], ["data=digits"])
    assert tuned.name == "resnet18" and tuned.parameters == packaged.parameters
    settings = read_run_settings(trial_overrides(tuned, ["data=digits"], {}))
    assert (settings.model.name, settings.optimizer.name) == ("resnet18", "adamw")
    assert settings.model.pretrained is True


_OF_TARGET = {"dense": ["fcn", "unet"]}


@pytest.mark.parametrize(
    ("loss", "target"),
    [
        *(("asymmetric", "multi"), ("cross_entropy", "multi"), ("focal", "single")),
        *(("corn", "ordinal"), ("focal", "ordinal")),
        *(("dice", "dense"), ("cross_entropy_dice", "dense"), ("cross_entropy", "dense")),
    ],
)
def test_every_loss_races_with_networks_from_scratch_and_tuned(loss: str, target: str) -> None:
    base = ["data=digits", f"data.target={target}", f"loss={loss}"]
    families = load_families(_OF_TARGET.get(target, ["cnn", "efficientnet_lite0"]), base)
    smoothed = hasattr(read_run_settings([*base, "model=fcn"]).loss, "label_smoothing")
    for family in families:
        searched = {parameter.key for parameter in family.parameters}
        assert "loss" not in searched and "optimizer.lr" in searched
        if "augment" in searched and family.name != "unet":
            assert ("loss.label_smoothing" in searched) == smoothed


def test_the_losses_of_the_test_above_are_all() -> None:
    (mark,) = test_every_loss_races_with_networks_from_scratch_and_tuned.pytestmark  # type: ignore[attr-defined]
    assert {loss for loss, _ in mark.args[1]} == set(groups()["loss"])


def test_ordered_classes_race_a_loss_with_the_order_against_one_without() -> None:
    def losses(*base: str) -> list[Value]:
        (family,) = load_families(["cnn"], ["data=digits", *base])
        values = [parameter.choices for parameter in family.parameters if parameter.key == "loss"]
        return list(*values)

    assert losses("data.target=ordinal") == ["cross_entropy", "corn"]
    assert losses() == losses("data.target=multi") == []
    # A key of a loss that all trials have rules those out that lack it.
    assert losses("data.target=ordinal", "loss.label_smoothing=0.1") == ["cross_entropy"]


@pytest.mark.parametrize(
    ("overrides", "threshold"),
    [
        ([], None),
        (["metric=macro_f1", "pruner=none"], "macro_f1"),
        (["metric=macro_f1", "pruner=none", "data.threshold=micro_f1"], None),
        (["data.threshold=macro_f1"], "macro_f1"),
        (["metric=hamming_loss", "pruner=none"], "half"),
        (["metric=accuracy", "pruner=none"], "half"),
        (["metric=accuracy", "pruner=none", "data.threshold=macro_f1"], "macro_f1"),
    ],
)
def test_trials_have_thresholds_for_what_the_sweep_goes_by(
    overrides: list[str], threshold: str | None
) -> None:
    found = base_overrides(["data.target=multi", *overrides], "default")
    expected = [] if threshold is None else [f"data.threshold={threshold}"]
    assert [override for override in found if "threshold" in override] == expected


@pytest.mark.parametrize(
    ("overrides", "pruner"),
    [
        ([], "asha"),
        (["metric=val/loss"], "asha"),
        (["metric=cost", "costs=costs.csv"], "asha"),
        (["metric=cost", "costs=costs.csv", "trainer.devices=2"], "asha"),
        (["metric=balanced_accuracy"], "asha"),
        (["metric=auc"], "asha"),
        (["metric=auc", "trainer.monitor=auc"], "asha"),
        (["metric=auc", "trainer.monitor=loss"], "none"),
        (["metric=loss", "trainer.monitor=auc"], "asha"),
        (["metric=cost/latency_ms"], "none"),
        (["metric=[val/accuracy,cost/parameters]"], "none"),
        (["metric=balanced_accuracy", "cv.folds=5", "pruner=wilcoxon"], "wilcoxon"),
    ],
)
def test_no_pruner_stops_trials_by_what_is_known_at_their_end(
    overrides: list[str], pruner: str
) -> None:
    settings = read_sweep_settings(overrides, "default")
    assert settings.pruner.name == pruner
    assert settings == read_sweep_settings([*overrides, f"pruner={pruner}"], "default")


@pytest.mark.parametrize(
    ("target", "overrides", "answer"),
    [
        ("single", [], None),
        ("single", ["metric=balanced_accuracy", "pruner=none"], "balanced_accuracy"),
        ("single", ["metric=macro_f1", "pruner=none"], None),
        ("single", ["metric=cost", "costs=costs.csv"], "cost"),
        ("ordinal", ["metric=cost", "costs=costs.csv"], "cost"),
        ("ordinal", ["metric=balanced_accuracy", "pruner=none"], "balanced_accuracy"),
        ("ordinal", [], None),
        ("ordinal", ["metric=mae", "pruner=none"], "mae"),
        ("ordinal", ["metric=[val/mae,val/kappa]", "pruner=none"], "mae"),
        ("ordinal", ["metric=mae", "pruner=none", "data.answer=most_probable"], None),
        ("ordinal", ["metric=mae", "pruner=none", "data.answer=kappa"], "kappa"),
        ("ordinal", ["metric=kappa"], None),
    ],
)
def test_trials_answer_for_what_the_sweep_goes_by(
    target: str, overrides: list[str], answer: str | None
) -> None:
    found = base_overrides([f"data.target={target}", *overrides], "default")
    expected = [] if answer is None else [f"data.answer={answer}"]
    assert [override for override in found if "data.answer" in override] == expected


@pytest.mark.parametrize(
    ("overrides", "monitor"),
    [
        (["metric=log_loss"], "val/log_loss"),
        (["metric=auc"], "val/auc"),
        (["metric=cost", "costs=costs.csv"], "val/cost"),
        (["metric=cost/parameters"], None),
        (["metric=[val/loss,val/accuracy]", "pruner=none"], "val/loss"),
        (["metric=log_loss", "pruner=none", "trainer.monitor=val/accuracy"], None),
        (["metric=accuracy"], None),
        (["metric=macro_f1"], "val/macro_f1"),
        (["metric=accuracy", "data.target=ordinal", "data.root=pictures.csv"], "val/accuracy"),
        (["data.target=ordinal", "data.root=pictures.csv"], None),
    ],
)
def test_trials_watch_what_the_sweep_goes_by(overrides: list[str], monitor: str | None) -> None:
    """The best weights, early stopping and exported variants go by it."""
    found = base_overrides(overrides, "default")
    expected = [] if monitor is None else [f"trainer.monitor={monitor}"]
    stated = [override for override in found if "trainer.monitor" in override]
    assert [one for one in stated if one not in overrides] == expected


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["metric=auc"],
            "metric: validation AUC, higher is better; trials are pruned by it after each epoch "
            "(pruner=asha)",
        ),
        (
            ["metric=cost", "costs=costs.csv", "cv.folds=5", "pruner=wilcoxon"],
            "metric: validation mean cost (mean of folds), lower is better; trials are pruned by "
            "it after each fold (pruner=wilcoxon)",
        ),
        (
            ["metric=[auc,cost/latency_ms]", "pruner=none"],
            "metrics: validation AUC and latency; no trial is pruned",
        ),
        (["metric=cost/flops"], "metric: operations, lower is better; no trial is pruned"),
    ],
)
def test_a_line_says_what_a_sweep_goes_by(overrides: list[str], line: str) -> None:
    settings = read_sweep_settings(overrides, "default")
    names = [metric_name(key, folds=settings.cv.is_whole) for key in settings.metrics]
    assert metric_line(settings, names) == line


@pytest.mark.parametrize(
    ("overrides", "trials", "minutes"),
    [
        ([], 24, 20),
        (["budget.minutes=30"], None, 30),
        (["++budget.minutes=30"], None, 30),
        (["budget.minutes=30", "budget.trials=9"], 9, 30),
        (["budget.trials=9"], 9, 20),
        (["budget.minutes=null"], 24, None),
        (["budget.epochs=500"], 24, 20),
    ],
)
def test_minutes_that_are_stated_alone_are_not_ended_by_the_trials_of_the_file(
    overrides: list[str], trials: int | None, minutes: float | None
) -> None:
    budget = read_sweep_settings(overrides, "default").budget
    assert (budget.trials, budget.minutes) == (trials, minutes)
