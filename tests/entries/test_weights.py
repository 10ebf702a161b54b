"""The list of pretrained networks, as a person asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
from huggingface_hub import constants

from src.config.compose import compose_settings
from src.config.models import WeightsSettings
from src.weights import main
from tests.models.caches import use_empty_caches

_LITE = "tf_efficientnet_lite"


@pytest.mark.parametrize(
    ("overrides", "start", "listed"),
    [
        ([], "0 Pretrained networks that load here without a connection\n", "012"),
        (["filter=LITE1"], "0 ", "1"),
        (["filter=no_such"], "2 error: filter is 'no_such': none of the ", ""),
        (["filtr=vit"], "2 error: filtr: there is no such key", ""),
        (
            [f"fetch=[{_LITE}1,{_LITE}1]", "filter=lite2"],
            f"0 {_LITE}1: is here already\nPretr",
            "2",
        ),
        (["fetch=[no_such]"], "2 error: fetch: neither timm nor torchvision knows ", ""),
        (["fetch=lcnet_050"], "2 error: fetch is 'lcnet_050': it must be suggested or a list", ""),
    ],
)
def test_what_the_filter_leaves_is_listed(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    start: str,
    listed: str,
) -> None:
    monkeypatch.setattr("sys.argv", ["src.weights", *overrides])
    code = main()
    captured = capsys.readouterr()
    assert f"{code} {captured.out}{captured.err}".startswith(start)
    table = captured.out.partition("Pretrained networks")[2]
    assert [number for number in "012" if _LITE + number in table] == [*listed]


def test_a_hub_that_is_not_there_is_named_with_the_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_empty_caches(monkeypatch, tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("sys.argv", ["src.weights", "fetch=suggested"])
    assert main() == 1
    said = capsys.readouterr().err
    assert "was not fetched (" in said and "mirror that HF_ENDPOINT names" in said


def test_the_suggested_networks_are_on_the_hub_under_a_free_licence() -> None:
    names = compose_settings(WeightsSettings, ["fetch=suggested"]).fetched
    described = [timm.get_pretrained_cfg(name) for name in names]
    assert len(names) >= 3 and all(one.hf_hub_id for one in described)
    assert {one.license for one in described} == {"apache-2.0"}
