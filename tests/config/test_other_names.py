"""Names of other tools, and networks of timm and torchvision by their own names."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from src.config.checks import ConfigError
from src.config.command_line import parse, take_config_name
from src.config.completion import completions
from src.config.compose import compose_plain, compose_settings
from src.config.finished import (
    CompareSettings,
    EvaluateSettings,
    PredictSettings,
    PushSettings,
    SelectSettings,
)
from src.config.models import ZooSettings
from src.config.nested import leaves
from src.config.other_names import library_networks, library_of, with_libraries
from src.config.plugins import plugin_folders, take_plugins
from src.config.schema import RunSettings
from src.config.sweep import read_sweep_settings


@pytest.mark.parametrize(
    ("override", "ours"),
    [
        ("max_epochs=5", "trainer.max_epochs"),
        ("epochs=5", "trainer.max_epochs"),
        ("batch_size=32", "data.batch_size"),
        ("lr=0.1", "optimizer.lr"),
        ("learning_rate=0.1", "optimizer.lr"),
        ("imgsz=224", "data.image_size"),
        ("devices=2", "trainer.devices"),
        ("device=0", "trainer.accelerator"),
        ("ckpt_path=last.ckpt", "resume"),
        ("data_dir=/photos", "data.root"),
        ("logger=wandb", "tracking"),
        ("dataset=cifar10", "data"),
        ("verbose=true", "trainer.progress"),
        ("task=multilabel", "data.target"),
        ("epoch=5", "trainer.max_epochs"),
        ("images=/photos", "data.root"),
        ("output=runs", "output_dir"),
        ("freeze=true", "model.freeze_epochs"),
        ("fine_tune=3", "recipe"),
        ("metric=auc", "trainer.monitor"),
        ("cost_matrix=costs.csv", "costs"),
        ("time_limit=60", "trainer.max_time"),
        ("eval_metric=accuracy", "trainer.monitor"),
    ],
)
def test_a_name_of_another_tool_is_answered_with_ours(override: str, ours: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_settings(RunSettings, [override])
    key = override.partition("=")[0]
    assert str(caught.value).startswith(f"{key}: ") and f"{key} is {ours}" in str(caught.value)
    assert ours in {*leaves(compose_plain([], "config")), "data", "tracking", "recipe"}


def test_all_keys_that_there_are_not_are_answered_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        compose_settings(RunSettings, ["epochs=5", "seed=1", "lr=0.1", "lr=0.2"])
    assert str(caught.value) == (
        "epochs: there is no such key; epochs is trainer.max_epochs here. lr: there is no such "
        "key; lr is optimizer.lr here."
    )


def test_an_entry_names_its_own_keys_alone() -> None:
    with pytest.raises(ConfigError, match="ckpt_path is run here"):
        compose_settings(PredictSettings, ["ckpt_path=a", "run=b", "images=c"])
    for model in ("champion", "vit"):
        with pytest.raises(ConfigError, match=r"^model: this command has .*; model is run here"):
            compose_settings(PredictSettings, [f"model={model}", "images=c"])
    with pytest.raises(ConfigError, match="conf: there is no such key; predict max_error="):
        compose_settings(PredictSettings, ["conf=0.5", "run=b", "images=c"])
    with pytest.raises(ConfigError, match=r"n_trials is budget\.trials here"):
        read_sweep_settings(["n_trials=5"], "default")
    with pytest.raises(ConfigError, match=r"^finalists\.count: finalists has no keys of its own: "):
        read_sweep_settings(["finalists.count=5"], "default")


@pytest.mark.parametrize(
    ("override", "instead"),
    [
        ("trainer=gpu", "trainer.accelerator=gpu"),
        ("optimizer=adam", "optimizer=adamw"),
    ],
)
def test_an_option_of_another_tool_is_answered_with_ours(override: str, instead: str) -> None:
    with pytest.raises(ConfigError, match=f"set {instead}"):
        compose_settings(RunSettings, [override])
    compose_plain(instead.split(), "config")


@pytest.mark.parametrize(
    ("override", "instead"),
    [
        ("hydra/launcher=joblib", "workers=ray"),
        ("hydra.sweep.dir=x", "output_dir"),
        ("hydra.run.dir=x", "output_dir"),
        ("+hydra/sweeper=optuna", "src.sweep"),
    ],
)
def test_what_hydra_does_elsewhere_is_named(override: str, instead: str) -> None:
    with pytest.raises(ConfigError, match=instead):
        compose_plain([override], "config")


def test_an_unknown_flag_is_answered_with_a_setting() -> None:
    with pytest.raises(ConfigError, match="batch_size=32"):
        parse(["--batch-size=32"])


def test_a_folder_of_config_groups_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_PLUGINS", "")
    (tmp_path / "optimizer").mkdir()
    text = "_target_: src.training.optimizers.sgd\nname: slow\nlr: 0.001\n"
    (tmp_path / "optimizer" / "slow.yaml").write_text(text)
    for argv in (["--config-dir", str(tmp_path)], [f"-cd={tmp_path}"]):
        overrides = take_plugins(parse([*argv, "optimizer=slow"]).overrides)
        assert overrides == ["optimizer=slow"] and plugin_folders("conf") == (tmp_path,)
        assert compose_settings(RunSettings, overrides).optimizer.lr == 0.001


def test_a_network_of_a_library_is_named_as_the_library_names_it() -> None:
    settings = compose_settings(RunSettings, ["model=resnet18", "model.pretrained=true"])
    written = compose_settings(
        RunSettings, ["model=timm", "model.name=resnet18", "model.pretrained=true"]
    )
    assert settings == written and isinstance(settings.model, ZooSettings)
    assert with_libraries(["seed=1", "model=googlenet"], ["cnn"]) == [
        *("seed=1", "model=torchvision", "model.name=googlenet")
    ]
    assert with_libraries(["model=cnn", "model=other/x"], ["cnn"]) == ["model=cnn", "model=other/x"]
    assert library_of("resnet18.a1_in1k") == "timm" and library_of("googlenet.tag") is None


def test_the_networks_are_those_that_the_libraries_list() -> None:
    import timm
    from torchvision import models

    listed = {*timm.list_models(include_tags=False), *models.list_models(module=models)}
    assert listed <= set(library_networks())
    assert all(timm.is_model(name) for name in set(library_networks()) - listed)


def test_a_wrong_network_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"resnett18.*did you mean resnet18\?"):
        compose_settings(RunSettings, ["model=resnett18"])


def test_a_shell_completes_networks_of_which_the_weights_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "models--timm--resnet26.bt_in1k").mkdir()
    stored = tmp_path / "torch" / "hub" / "checkpoints"
    stored.mkdir(parents=True)
    (stored / "resnet34-b627a593.pth").write_bytes(b"")
    found = completions("bakeoff train model=resn")
    assert found == ["model=resnet26.bt_in1k", "model=resnet34"]
    assert "model=convnext_tiny" in completions("bakeoff train model=convn")


def test_a_family_of_networks_is_answered_with_its_members() -> None:
    with pytest.raises(ConfigError, match=r"did you mean resnet18, resnet\d\d, resnet\d\d\?"):
        compose_settings(RunSettings, ["model=resnet"])
    with pytest.raises(ConfigError, match=r"did you mean cnn\?"):
        compose_settings(RunSettings, ["model=cnnn"])


@pytest.mark.parametrize(
    ("overrides", "ours"),
    [
        (["--epochs", "5"], "as in trainer.max_epochs=5,"),
        (["--lr=0.1"], "as in optimizer.lr=0.1,"),
        (["--port", "5000"], "as in port=5000,"),
        (["--lucky", "model=mlp"], "as in lucky=VALUE,"),
    ],
)
def test_a_flag_is_answered_with_the_setting(overrides: list[str], ours: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(overrides)
    assert ours in str(caught.value)


def test_a_folder_alone_is_answered_with_the_settings_that_take_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"set data={tmp_path}"):
        compose_settings(RunSettings, [str(tmp_path)])
    with pytest.raises(ConfigError, match=f"set images={tmp_path}"):
        compose_settings(PredictSettings, ["run=champion", str(tmp_path)])
    (tmp_path / "run.json").write_text("{}")
    for cls in (PredictSettings, EvaluateSettings):
        with pytest.raises(ConfigError, match=f"set run={tmp_path}"):
            compose_settings(cls, [str(tmp_path)])
    spaced = tmp_path / "my photos"  # what is pasted must be one argument
    spaced.mkdir()
    with pytest.raises(ConfigError, match=f"set 'data={spaced}'"):
        compose_settings(RunSettings, [str(spaced)])
    with pytest.raises(ConfigError, match=f"as in 'data={spaced}',"):
        parse(["--data", str(spaced)])
    with pytest.raises(ConfigError, match=r"given as KEY=VALUE, spaces in quotes\.$"):
        compose_settings(RunSettings, ["model", "=", "mlp"])


@pytest.mark.parametrize(
    ("cls", "override", "ours"),
    [
        (CompareSettings, "clothes", "set sweep=clothes"),
        (SelectSettings, "refit", "set refit=true"),
        (SelectSettings, "champion", "set run=champion"),
        (EvaluateSettings, "champion", "set run=champion"),
        (EvaluateSettings, "part=test", "part is split here"),
        (CompareSettings, "study=clothes", "study is sweep here"),
        (CompareSettings, "runs=a,b", r"a list is runs=\[a,b\]"),
        (RunSettings, "optimizer.lr=0,001", r"optimizer\.lr=0\.001"),
        (RunSettings, "model=cnn,mlp", "add -m"),
        (RunSettings, "optimizer=SGD", "did you mean sgd"),
        (RunSettings, "model=CNN", "did you mean cnn"),
        (RunSettings, "trainer.epochs=3", r"trainer\.max_epochs here"),
        (RunSettings, "model.optimizer.lr=1", r"is optimizer\.lr here"),
        (RunSettings, "data.batchsize=8", r"did you mean data\.batch_size"),
        (RunSettings, "mixup=0.2", r"did you mean augment\.mixup_alpha"),
        (RunSettings, "num_classes=10", "counted from the pictures"),
        (RunSettings, "trainer.fast_dev_run=true", "debug=batch"),
        (RunSettings, "data.image_size=224x224", r"as in \[224,224\]"),
        (RunSettings, "cv=5", r"such as cv\.folds"),
        (RunSettings, "data=clothing", "own are data=FOLDER"),
        (CompareSettings, "runs=[]", "at least one run"),
        (PushSettings, "to=hf:a/b", "hf://USER/NAME"),
        (PushSettings, "out=folder", "out is to here"),
        (PredictSettings, "out=a.json", r"use a\.csv"),
    ],
)
def test_what_people_type_first_is_answered_with_what_was_meant(
    cls: type, override: str, ours: str
) -> None:
    needed = ["run=r", "images=i", "to=t"]
    known = {field.name for field in dataclasses.fields(cls)}
    given = [one for one in needed if one.partition("=")[0] in known]
    given = [one for one in given if one.partition("=")[0] != override.partition("=")[0]]
    with pytest.raises(ConfigError, match=ours):
        compose_settings(cls, [*given, override])


@pytest.mark.parametrize("override", ["kind=classify", "tags=[a]", "data.shuffle=true"])
def test_nothing_is_proposed_that_is_hardly_alike(override: str) -> None:
    with pytest.raises(ConfigError, match="--help lists"):
        compose_settings(RunSettings, [override])


def test_a_sweep_says_how_its_arguments_are_meant() -> None:
    for override, ours in {
        "workers=2": r"set workers\.count=2",
        "budget=10": r"such as .*budget\.minutes",
        "families=cnn,vit": r"a list is families=\[cnn,vit\]",
        "optimizer.lr=0.1,0.2": "sweeps/spaces",
        "fashion": "use --config-name fashion",
        "metric=acc": "did you mean accuracy",
        "metric=roc_auc": "did you mean auc",
    }.items():
        with pytest.raises(ConfigError, match=ours):
            read_sweep_settings([override], "default")
    for name in ("fashion.yml", "sweeps/fashion.yaml", "fashion"):
        assert take_config_name(["--config-name", name, "seed=1"], "") == (["seed=1"], "fashion")
    for nameless in (["-cn"], ["--config-name="]):  # which is not the default's
        overrides, name = take_config_name(nameless, "")
        assert name
        with pytest.raises(ConfigError, match="there are architectures"):
            read_sweep_settings(overrides, name)
