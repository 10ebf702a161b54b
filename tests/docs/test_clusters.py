"""The files of docs/clusters, against what the systems that read them accept."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from src.config.compose import groups, with_pictures
from src.config.sweep import SweepSettings, read_sweep_settings
from src.machine.package import overrides_of
from tests.docs.blocks import ROOT

_FILES = ("rayjob", "job")


def _plain(name: str) -> dict[str, Any]:
    plain: dict[str, Any] = yaml.safe_load((ROOT / f"docs/clusters/{name}.yaml").read_text())
    return plain


def _validator(name: str) -> Draft202012Validator:
    schema = json.loads((Path(__file__).parent / f"schemas/{name}.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def _mappings(plain: Any) -> Iterator[dict[str, Any]]:
    if isinstance(plain, dict):
        yield plain
    for value in plain.values() if isinstance(plain, dict) else plain:
        if isinstance(value, dict | list):
            yield from _mappings(value)


@pytest.mark.parametrize("name", _FILES)
def test_a_file_is_what_its_reader_accepts(name: str) -> None:
    plain, validator = _plain(name), _validator(name)
    assert [error.message for error in validator.iter_errors(plain)] == []
    for mapping in _mappings(plain):  # a misspelt key is found wherever keys are not free
        if mapping.keys() & {"rayStartParams", "mountPath", "instance_type", "entrypoint"}:
            mapping["mispelt"] = "1"
            assert not validator.is_valid(plain)
            del mapping["mispelt"]


@pytest.mark.parametrize("name", _FILES)
def test_its_command_is_a_sweep_on_ray(name: str) -> None:
    plain = _plain(name)
    settings = _sweep_of((plain.get("spec") or plain)["entrypoint"])
    assert settings.workers.engine == "ray" and settings.workers.address is None
    assert settings.budget.minutes == 240


def test_what_pods_mount_is_there_and_pictures_and_outputs_are_where_the_command_says() -> None:
    spec = _plain("rayjob")["spec"]
    cluster = spec["rayClusterSpec"]
    head, workers = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    mounted = []
    for group in (head, *workers):
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        mounts = {one["name"]: one["mountPath"] for one in pod["containers"][0]["volumeMounts"]}
        assert mounts.keys() == volumes
        mounted.append(set(mounts.values()))
    settings = _sweep_of(spec["entrypoint"])
    assert all(settings.data.root in paths for paths in mounted)
    assert [settings.output_dir in paths for paths in mounted] == [True, False]


def _sweep_of(entrypoint: str) -> SweepSettings:
    overrides = overrides_of(entrypoint, "sweep")
    assert overrides is not None
    return read_sweep_settings(with_pictures(overrides, groups()["data"]), "default")


def test_its_version_of_ray_is_the_one_that_is_locked() -> None:
    locked = re.search(r"^ray==(\S+)", (ROOT / "requirements-ray.lock").read_text(), re.MULTILINE)
    assert locked is not None
    assert _plain("rayjob")["spec"]["rayClusterSpec"]["rayVersion"] == locked[1]
