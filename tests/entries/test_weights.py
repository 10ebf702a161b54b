"""The list of pretrained networks, as a person asks for it."""

from __future__ import annotations

import pytest

from src.weights import main


def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.setattr("sys.argv", ["src.weights", *words])
    code = main()
    captured = capsys.readouterr()
    return f"{code} {captured.out}{captured.err}"


def test_the_packages_are_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ask(capsys, monkeypatch)
    assert said.startswith("0 Pretrained networks that load here without a connection\n")
    for name in ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"):
        assert name in said


def test_the_filter_narrows_by_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ask(capsys, monkeypatch, "filter=LITE1")
    assert "tf_efficientnet_lite1" in said and "tf_efficientnet_lite0" not in said
    said = ask(capsys, monkeypatch, "filter=no_such")
    assert said.startswith("2 error: filter is 'no_such': none of the ")


def test_a_wrong_word_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(capsys, monkeypatch, "filtr=vit").startswith("2 error: filtr: there is no such key")
