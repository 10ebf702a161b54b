"""The list of pretrained networks, as a person asks for it."""

from __future__ import annotations

import pytest

from src.weights import main

_LITE = "tf_efficientnet_lite"


@pytest.mark.parametrize(
    ("overrides", "start", "listed"),
    [
        ([], "0 Pretrained networks that load here without a connection\n", "012"),
        (["filter=LITE1"], "0 ", "1"),
        (["filter=no_such"], "2 error: filter is 'no_such': none of the ", ""),
        (["filtr=vit"], "2 error: filtr: there is no such key", ""),
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
    assert [number for number in "012" if _LITE + number in captured.out] == [*listed]
