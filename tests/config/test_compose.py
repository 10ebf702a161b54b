"""From command-line overrides to settings, over the project's own conf/."""

from __future__ import annotations

import itertools
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from src.config import compose
from src.config.checks import ConfigError, Settings, to_plain
from src.config.compose import (
    CONF,
    compose_plain,
    compose_settings,
    data_overrides,
    expand,
    flattened,
    groups,
    read_run_settings,
    with_pictures,
)
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
from src.config.nested import leaves
from src.config.schema import RunSettings, stored_settings
from src.config.sweep import DashboardSettings, read_sweep_settings
from src.config.tracking import ReplaySettings, UISettings
from src.machine.yaml_text import read_yaml, yaml_text
from src.runs.settings import read_settings

OPTIONS = [(group, option) for group, options in groups().items() for option in options]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_survives_a_round_trip(group: str, option: str) -> None:
    of_pixels = ("dice", "cross_entropy_dice", "unet", "deeplab", "segmentation", "pixels", "dense")
    target = {"asymmetric": "multi", "corn": "ordinal", **dict.fromkeys(of_pixels, "dense")}
    overrides = ["cv.folds=4", f"data.target={target.get(option, 'single')}", f"{group}={option}"]
    overrides = ["model=fcn", *overrides] if group == "loss" else overrides
    settings = compose_settings(RunSettings, overrides)
    stored = read_yaml(yaml_text(to_plain(settings)))
    before = deepcopy(stored)
    assert stored_settings(stored) == settings
    assert stored == before, "what was read stays as it is"
    kept = read_yaml(yaml_text(settings.effective()))  # what a run keeps
    assert stored_settings(kept).effective() == kept


def test_what_an_own_network_has_no_use_for_need_not_be_kept() -> None:
    settings = compose_settings(RunSettings, ["model=embedding", "model.run=RUN"])
    kept = settings.effective()
    assert not {"networks", "pretrained", "input_size"} & {*kept["model"]}
    assert stored_settings(kept).effective() == kept


@pytest.mark.parametrize("recipe", sorted(file.stem for file in (CONF / "recipe").glob("*.yaml")))
def test_what_a_recipe_says_is_what_the_run_does(recipe: str) -> None:
    said = yaml.safe_load((CONF / "recipe" / f"{recipe}.yaml").read_text()) or {}
    said.pop("defaults", None)
    done = leaves(to_plain(compose_settings(RunSettings, [f"recipe={recipe}"])))
    for key, value in leaves(said).items():
        assert done[key] == value, key


WHOLE = [(group, one) for group in ("recipe", "experiment") for one in groups()[group]]


@pytest.mark.parametrize(("group", "option"), WHOLE)
def test_a_run_can_be_asked_for_by_every_recipe_and_experiment(group: str, option: str) -> None:
    read_run_settings([f"{group}={option}"])


@pytest.mark.parametrize("option", groups()["augment"])
def test_every_setting_of_an_augmentation_changes_something(option: str) -> None:
    said = yaml.safe_load((CONF / "augment" / f"{option}.yaml").read_text()) or {}
    settings = compose_settings(RunSettings, [f"augment={option}"]).augment
    for name in said:  # by itself, beside what the option turns on
        assert not list(settings.without_effect({name})), name


@pytest.mark.parametrize(
    ("overrides", "without"),
    [
        (["augment.rotate_degrees=30"], "augment.warp_probability"),
        (["augment.zoom=0.3"], "augment.warp_probability"),
        (["augment.warp_probability=0.5"], "augment.rotate_degrees or augment.zoom"),
        (["augment.brightness=0.4"], "augment.color_probability"),
        (["augment.color_probability=0.4"], "augment.brightness"),
        (["augment.mixup_alpha=0.2"], "augment.mix_probability"),
        (["augment.mix_probability=1"], "augment.mixup_alpha"),
        (["augment.policy_magnitude=20"], "augment.policy"),
        (["augment=photo", "augment.policy_magnitude=20"], "augment.policy"),
        (["augment.crop_scale=[0.1,0.5]"], "augment.crop_probability"),
        (["augment.erase_area=[0.3,0.5]"], "augment.erase_probability"),
        (["augment=none", "augment.padding=reflect"], "augment.translate"),
        (["augment=none", "augment.alternate_flip=true"], "augment.flip"),
        (["data=folder", "data.root=x", "data.band_names=[nir]"], "data.bands"),
        (["model=resnet18", "model.freeze_norm=true"], "model.pretrained"),
        (["scheduler.warmup_fraction=0", "scheduler.start_divisor=9"], "scheduler.warmup_fraction"),
        (["data.train_on_val=true", "data.answer=balanced_accuracy"], "data.train_on_val=false"),
        (
            ["data.target=multi", "data.train_on_val=true", "data.threshold=micro_f1"],
            "data.train_on_val=false",
        ),
    ],
)
def test_what_does_nothing_by_itself_is_refused(overrides: list[str], without: str) -> None:
    with pytest.raises(ConfigError, match=f"^{overrides[-1].split('=')[0]}: .* without {without}"):
        read_run_settings(overrides)
    read_run_settings(overrides, sampled=True)


@pytest.mark.parametrize(
    "overrides",
    [
        ["augment.rotate_degrees=0"],
        ["augment=strong", "augment.mix_probability=0"],
        ["augment=strong", "augment.zoom=0.1"],
        ["augment.padding=reflect"],
        ["augment.alternate_flip=true"],
        ["augment.warp_probability=0", "augment.zoom=0.1"],
        ["augment.policy=rand", "augment.policy_magnitude=3"],
        ["model=efficientnet_lite0", "model.pretrained=null"],
        ["model=efficientnet_lite0", "model.freeze_norm=true"],
        ["model=resnet18", "model.freeze_norm=false"],
        ["scheduler.start_divisor=9"],
        ["data.target=ordinal", "data.train_on_val=true", "data.answer=mae"],
        ["data.train_on_val=true", "data.answer=cost", "costs=costs.csv"],
        ["data.target=multi", "data.train_on_val=true", "data.threshold=half"],
        ["trainer.validate_every=5", "trainer.max_epochs=5", "trainer.final_weights=best"],
        ["trainer.validate_every=5", "trainer.max_epochs=3"],
    ],
)
def test_what_goes_with_others_or_is_turned_off_is_taken(overrides: list[str]) -> None:
    read_run_settings(overrides)


def test_answers_by_costs_need_costs() -> None:
    with pytest.raises(ConfigError, match=r"data\.answer is cost, and there are no costs: set co"):
        read_run_settings(["data.answer=cost"])


@pytest.mark.parametrize("choice", ["early_stopping=2", "final_weights=best"])
def test_nothing_is_chosen_by_a_validation_that_never_comes(choice: str) -> None:
    overrides = ["trainer.validate_every=5", "trainer.max_epochs=3", f"trainer.{choice}"]
    with pytest.raises(ConfigError, match=r"validate_every is 5, and with 3 epochs there is never"):
        read_run_settings(overrides)


def test_nothing_is_compiled_that_stored_views_bypass() -> None:
    overrides = ["model=cnn", "model.frozen_stages=1", "model.stored_views=2"]
    with pytest.raises(ConfigError, match=r"compile is true, and with model\.stored_views=2"):
        read_run_settings([*overrides, "runtime.compile=true"])
    read_run_settings([*overrides[:2], "runtime.compile=true"])


@pytest.mark.parametrize("model", ["gru", "renet", "mlp"])
def test_norms_that_are_not_there_are_not_frozen(model: str) -> None:
    overrides = [f"model={model}", "model.pretrained=weights.pt", "model.freeze_norm=true"]
    overrides += ["model.batch_norm=false"] if model == "mlp" else []
    with pytest.raises(ConfigError, match=r"model\.freeze_norm: it changes nothing"):
        read_run_settings(overrides)
    read_run_settings(["model=mlp", "model.batch_norm=true", *overrides[1:3]])


EXPERIMENTS = {
    "digits_quick": ("digits", "cnn", 10),
    "photos_frozen": ("folder", "embedding", "auto"),
    "photos_finetune": ("folder", "tf_efficientnet_lite0", 4),
    "photos_folds": ("folder", "embedding", "auto"),
}


@pytest.mark.parametrize("experiment", groups()["experiment"])
def test_an_experiment_chooses_pictures_model_and_recipe(experiment: str) -> None:
    settings = compose_settings(RunSettings, [f"experiment={experiment}"])
    found = settings.data.name, settings.model.name, settings.trainer.max_epochs
    assert found == EXPERIMENTS[experiment]
    changed = compose_settings(RunSettings, [f"experiment={experiment}", "model=mlp", "seed=3"])
    assert (changed.model.name, changed.seed) == ("mlp", 3), "the command line has the last word"


@pytest.mark.parametrize("debug", groups()["debug"])
def test_a_check_is_short_and_leaves_no_trace(debug: str) -> None:
    settings = read_run_settings([f"debug={debug}", "experiment=photos_finetune"])
    assert settings.data.limit == settings.data.batch_size
    assert not (settings.evaluate_test or settings.tracking.enabled)
    assert settings.output_dir == "outputs/debug"


def test_a_check_of_learning_needs_something_that_learns_by_epochs() -> None:
    with pytest.raises(ConfigError, match=r"debug=overfit: .*model=embedding"):
        read_run_settings(["debug=overfit", "model=embedding"])
    assert read_run_settings(["debug=batch", "model=embedding"]).data.limit == 64


def test_experiments_are_run_one_by_one() -> None:
    jobs = list(expand(["experiment=digits_quick,photos_folds", "seed=1"]))
    assert jobs == [["experiment=digits_quick", "seed=1"], ["experiment=photos_folds", "seed=1"]]


def test_a_key_that_is_called_as_a_group_is_a_key() -> None:
    assert compose_settings(CompareSettings, ["data=digits"]).data == "digits"
    assert compose_settings(RunSettings, ["data=digits"]).data.name == "digits"


@pytest.mark.parametrize(
    ("name", "cls"),
    {
        **{"config": RunSettings, "compare": CompareSettings, "select": SelectSettings},
        **{"predict": PredictSettings, "evaluate": EvaluateSettings, "scaling": ScalingSettings},
        **{"export": ExportSettings, "push": PushSettings, "verify": VerifySettings},
        **{"weights": WeightsSettings, "ui": UISettings, "replay": ReplaySettings},
        "dashboard": DashboardSettings,
    }.items(),
)
def test_a_command_has_the_settings_of_its_own_file(name: str, cls: type[Settings]) -> None:
    assert cls.config_name == name
    keys = compose_plain([], name, cls=cls).keys()
    assert keys <= {field.name for field in fields(cls)}  # type: ignore[arg-type]


def test_every_yaml_says_what_it_is() -> None:
    for file in CONF.rglob("*.yaml"):
        lines = [line for line in file.read_text().splitlines() if "@package" not in line]
        assert lines[0].startswith("# "), f"{file} begins without a comment"


def test_overrides_reach_their_keys() -> None:
    overrides = ["model=mlp", "optimizer=sgd", "optimizer.lr=0.5", "trainer.max_epochs=5", "seed=7"]
    settings = compose_settings(RunSettings, overrides)
    assert settings.model.name == "mlp" and settings.optimizer.name == "sgd"
    assert (settings.optimizer.lr, settings.trainer.max_epochs, settings.seed) == (0.5, 5, 7)


@pytest.mark.parametrize("plus", ["+", "++"])
def test_what_hydra_adds_or_forces_is_the_setting_itself(plus: str) -> None:
    overrides = ["experiment=digits_quick", "optimizer.lr=0.5", "seed=7", "output_dir=a b"]
    marked = [f"{plus}{override}" for override in overrides]
    assert read_settings(marked) == read_settings(overrides)
    with pytest.raises(ConfigError, match="changes nothing"):
        read_settings(["model=handcrafted", f"{plus}trainer.max_epochs=3"])
    with pytest.raises(ConfigError, match="resume"):  # and no new run is trained in its folder
        read_settings([f"{plus}resume=no-such-run"])
    assert list(expand([f"{plus}seed=1,2"])) == [["seed=1"], ["seed=2"]]


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["model=cnnn"], ["model is 'cnnn'", "vit", "did you mean cnn?"]),
        (["model=3"], ["model is 3", "vit"]),
        (["data=true"], ["data is true", "folder"]),
        (["augment=null"], ["augment is null", "none"]),
        (["runtime=[]"], ["runtime is []", "auto"]),
        (["=3"], ["'=3'", "KEY=VALUE"]),
        (["modle=cnn"], ["modle", "did you mean model?"]),
        (["trainer.max_epoch=3"], ["trainer.max_epoch", "did you mean trainer.max_epochs?"]),
        (["lr=3"], ["lr is optimizer.lr here"]),
        (["optimizer.lr=-1"], ["optimizer.lr is -1", "above 0"]),
        (["optimizer.lr={a:1}"], ["optimizer.lr is {'a': 1}", "a number"]),
        (["optimizer={lr:{a:1}}"], ["optimizer.lr is {'a': 1}", "a number"]),
        (["model=mlp", "model.hidden={a:1}"], ["model.hidden is {'a': 1}", "a list"]),
        (["seed=${seed}"], ["'seed=${seed}' cannot be read"]),
        (["seed=${oc.env:NO_SUCH_VARIABLE}"], ["'seed=${oc.env:NO_SUCH_VARIABLE}' cannot"]),
        (["optimizer.lr=fast"], ["optimizer.lr is 'fast'", "a number"]),
        (["seed=1,2"], ["seed=1,2", "-m"]),
        (["+new=1"], ["new", "no such key"]),
        (["~seed"], ["~seed", "set seed=VALUE"]),
        (["model._target_=os.system"], ["os.system", "allowlist"]),
        (["data._target_=builtins.open"], ["builtins.open", "allowlist"]),
        (["model._target_=[a]"], ["model._target_ is ['a']", "allowlist"]),
        (["+model._args_=[1]"], ["model._args_", "no such key"]),
        (["hydra.run.dir=x"], ["hydra.run.dir"]),
        (["model"], ["'model'", "KEY=VALUE"]),
        (["data.name=a(b"], ["cannot be read", "quotes"]),
        (["model.hidden=[32,", "64]"], ["'model.hidden=[A, B]'"]),
        (
            ["data=folder", "data.root=/a/My", "new", "photos", "seed=1"],
            ["'new'", "in quotes, 'data.root=/a/My new photos'."],
        ),
        (["runtime.precision=int8"], ["runtime.precision is 'int8'", "bfloat16"]),
        (["trainer.devices=0"], ["trainer.devices is 0"]),
        (
            ["trainer.monitor=val/map"],
            ["which is not measured with data.target=single: set it to one of auto, accuracy"],
        ),
        (["trainer.max_time=soon"], ["trainer.max_time is 'soon'"]),
        (["data.val_fraction=0.6", "data.test_fraction=0.5"], ["val_fraction", "below 1"]),
    ],
)
def test_a_wrong_word_is_explained_in_one_sentence(overrides: list[str], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_settings(RunSettings, overrides)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert len(message.splitlines()) == 1 and message.endswith(".")


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_paths_are_taken_literally(path: str) -> None:
    if path in ("null", "true", "false", "???") or not path.strip():
        return
    if path[0] in "~'\"" or path != path.strip():  # of which home, quotes and blanks are taken away
        return
    overrides = [f"data.root={path}", f"output_dir={path}", f"tracking.uri=sqlite:///{path}.db"]
    settings = compose_settings(RunSettings, overrides)
    assert settings.data.root == settings.output_dir == path
    assert settings.tracking.uri == f"sqlite:///{path}.db"


def test_a_home_that_nobody_has_is_taken_literally_from_python() -> None:
    root = Path("~nobody-here", "pictures")
    assert data_overrides(root) == ["data=folder", f"data.root={root.absolute()}"]


def test_paths_are_literal_in_a_multirun_too() -> None:
    overrides = ["data.root=/a,b/[c]=${d} 图片/~", "seed=1,2"]
    jobs = list(expand(overrides))
    assert jobs == [[overrides[0], "seed=1"], [overrides[0], "seed=2"]]


@pytest.mark.parametrize(
    ("typed", "place"),
    [
        ("data=/some/photos", "/some/photos"),
        ("+data=~/my photos", "~/my photos"),
        ("data=../photos", "../photos"),
        ("data=s3://bucket/photos.zip", "s3://bucket/photos.zip"),
        ("data=/some/train-{000..123}.tar", "/some/train-{000..123}.tar"),
        ("data=folder:/some/photos", "/some/photos"),  # as timm has it
    ],
)
def test_data_is_a_place_of_own_pictures(typed: str, place: str) -> None:
    assert with_pictures(["seed=1", typed], ["digits", "folder"]) == [
        "seed=1",
        "data=folder",
        f"data.root={place}",
    ]


def test_what_is_there_is_a_place_unless_a_data_set_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "photos.csv", "a,b"):
        Path(name).touch()
    for name in ("photos.csv", "a,b"):
        assert with_pictures([f"data={name}"], ["digits"])[1:] == [f"data.root={name}"]
    for other in ("data=digits", "data=nothing.csv", "data=/a,/b", "data=null", "data=", "data"):
        assert with_pictures([other], ["digits"]) == [other]


def test_the_place_of_the_pictures_is_said_once() -> None:
    with pytest.raises(ConfigError, match=r"'data=/a' and 'data\.root=/b' both say"):
        with_pictures(["data=/a", "data.root=/b"], ["folder"])


def test_a_multirun_is_every_combination() -> None:
    jobs = list(expand(["model=cnn,mlp", "seed=range(3)", "optimizer=sgd"]))
    expected = itertools.product(["model=cnn", "model=mlp"], [f"seed={i}" for i in range(3)])
    assert jobs == [[model, seed, "optimizer=sgd"] for model, seed in expected]
    assert list(expand(["model.pretrained=null,true"])) == [
        ["model.pretrained=null"],
        ["model.pretrained=true"],
    ]


@pytest.mark.parametrize(
    ("override", "single"),
    [
        ("budget={minutes:3,epochs:9}", ["budget.minutes=3", "budget.epochs=9"]),
        ("+model={widths:[8,16],drop_path:null}", ["model.widths=[8,16]", "model.drop_path=null"]),
        ("data={root:'/a b',crop:{x:1}}", ["data.root=/a b", "data.crop.x=1"]),
        ("seed=1", ["seed=1"]),
    ],
)
def test_values_in_braces_are_those_of_single_settings(override: str, single: list[str]) -> None:
    assert flattened([override]) == single


def test_braces_in_a_path_and_several_values_for_a_multirun_stay() -> None:
    given = ["data.root={a:1}", "optimizer={lr:0.1},{lr:0.2}", "study={"]
    with pytest.raises(ConfigError, match="study="):
        flattened(given)
    assert flattened(given[:2]) == given[:2]


def test_a_multirun_takes_the_options_that_a_pattern_names() -> None:
    assert list(expand(["model=glob([cn*,ml*])"])) == [["model=cnn"], ["model=mlp"]]
    assert list(expand(["optimizer=glob(*,exclude=[muon*,sgd])"])) == [["optimizer=adamw"]]
    for override in ("seed=glob(*)", "model=glob(nothing*)"):
        with pytest.raises(ConfigError, match="no group"):
            list(expand([override]))


@pytest.mark.parametrize(
    "content", [b"name: [\n", b"name: \xe4\n", b"a: 1\n b: 2\n", b"\tname: x\n"]
)
def test_a_file_of_a_group_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    file = tmp_path / "model" / "mine.yaml"
    file.parent.mkdir()
    file.write_bytes(content)
    monkeypatch.setattr(compose, "plugin_folders", lambda *_: (tmp_path,))
    with pytest.raises(ConfigError, match="config group cannot be read") as caught:
        compose_plain(["model=mine"], "config")
    assert len(str(caught.value).splitlines()) == 1


def test_what_refers_to_another_setting_gets_its_value_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ["optimizer.weight_decay=${optimizer.lr}", "optimizer.lr=0.5", "seed=3"]
    for overrides in (wanted, wanted[::-1]):
        plain = compose_plain(overrides, "config")
        assert plain["optimizer"]["weight_decay"] == plain["optimizer"]["lr"] == 0.5
        assert plain["seed"] == 3
    # Also the value of a key that no file states, and that is a default of its class.
    assert compose_plain(["seed=${data.split_seed}", "data.split_seed=7"], "config")["seed"] == 7
    assert compose_plain(["data.split_seed=${cv.repeats}"], "config")["data"]["split_seed"] == 1
    file = tmp_path / "experiment" / "mine.yaml"
    file.parent.mkdir()
    file.write_text("# @package _global_\noptimizer:\n  weight_decay: ${optimizer.lr}\n")
    monkeypatch.setattr(compose, "plugin_folders", lambda *_: (tmp_path,))
    plain = compose_plain(["experiment=mine", "optimizer.lr=0.25"], "config")
    assert plain["optimizer"]["weight_decay"] == 0.25
    with pytest.raises(ConfigError, match=r"optimizer\.lrr: there is no such key"):
        compose_plain(["experiment=mine", "optimizer.lrr=0.25"], "config")


def test_a_group_of_another_folder_is_listed(tmp_path: Path) -> None:
    (tmp_path / "shape").mkdir()
    for name in ("round", "flat"):
        (tmp_path / "shape" / f"{name}.yaml").write_text("size: 1\n")
    assert groups(tmp_path) == {"shape": ["flat", "round"]}


@pytest.mark.parametrize(
    "override",
    [
        *("hydra/job_logging=disabled", "hydra/hydra_logging=none", "hydra/launcher=basic"),
        *("+hydra/launcher=joblib", "++hydra/launcher=basic", "~hydra/launcher", "~hydra"),
        *("hydra/sweeper=basic", "hydra/output=default", "hydra/help=default", "hydra/env=default"),
        *("hydra.sweep.dir=x", "hydra.run.dir=x", "+hydra.foo=1", "hydra.mode=MULTIRUN"),
        *("hydra={run:{dir:x}}", "hydra@_global_=x", "hydra/launcher@hydra.launcher=basic"),
        *("data@hydra.x=digits", "+data@hydra=digits", "optimizer@_global_.hydra=adamw"),
    ],
)
def test_hydras_own_settings_are_refused_instead_of_taken_without_an_effect(override: str) -> None:
    with pytest.raises(ConfigError, match="Hydra's own settings play no part here"):
        compose_plain([override], "config")
    with pytest.raises(ConfigError, match="Hydra's own settings play no part here"):
        list(expand([override]))


@pytest.mark.parametrize("twice", ["metric=[accuracy,loss,accuracy]", "families=[mlp,cnn,mlp]"])
def test_what_a_study_names_twice_is_refused(twice: str) -> None:
    with pytest.raises(ConfigError, match="named twice"):
        read_sweep_settings(["data=digits", "study=s", "pruner=none", twice], "default")


@pytest.mark.parametrize("name", ["2026", "1e3", "007", "a.b-c_d"])
def test_a_study_may_be_called_as_a_number_is_written(name: str) -> None:
    overrides = ["data=digits", f"study={name}"]
    assert read_sweep_settings(overrides, "default").study == name
    assert compose_settings(CompareSettings, [f"sweep={name}"]).sweep == name
    assert compose_settings(SelectSettings, [f"sweep={name}"]).sweep == name
    assert compose_settings(VerifySettings, [f"study={name}"]).study == name


def test_of_files_only_those_of_the_project_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of Hydra, on logs, launchers and help, are a fifth of the time of a composition."""
    read: list[Path] = []
    usual = OmegaConf.load

    def load(file: Any) -> Any:
        read.append(Path(file.name))
        return usual(file)

    monkeypatch.setattr(OmegaConf, "load", load)
    # Options that no other test has together, for what was composed is kept.
    overrides = ["model=renet", "optimizer=sgd", "scheduler=linear", "loss=focal"]
    compose_settings(RunSettings, overrides)
    assert len(read) > 8 and {file.is_relative_to(CONF) for file in read} == {True}
