from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from src.selection.comparison.names import names_of
from src.selection.comparison.read_runs import read_settings


def test_the_settings_with_the_most_values_are_named() -> None:
    own = {
        "a": {"optimizer.name": "muon", "optimizer.lr": 0.1, "x": 1, "y": 1, "same": 0},
        "b": {"optimizer.name": "sgd", "optimizer.lr": 0.2, "x": 1, "y": 2, "same": 0},
        "c": {"optimizer.name": "sgd", "optimizer.lr": 0.3, "x": 2, "y": 3, "same": 0},
        "d": {"optimizer.name": "sgd", "optimizer.lr": 0.4, "x": 2, "same": 0},
    }
    names = names_of(dict.fromkeys(own, "cnn"), own)
    assert names["a"] == "cnn lr=0.1 y=1 optimizer=muon #a"
    assert names["d"] == "cnn lr=0.4 optimizer=sgd #d"


def test_a_model_that_is_there_once_needs_no_more_than_its_name() -> None:
    models = {"a": "cnn", "b": "mlp"}
    assert names_of(models, {"a": {"lr": 0.1}, "b": {"lr": 0.2}}) == models


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(min_size=1), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), _VALUES, min_size=1))
def test_settings_are_read_as_yaml_reads_them(plain: dict[str, object]) -> None:
    written = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    assert read_settings(written) == yaml.safe_load(written)


def test_groups_that_share_a_list_and_files_that_hold_none() -> None:
    shared = [1, 2]
    written = yaml.safe_dump({"a": shared, "b": {"c": shared}})
    assert "*" in written and read_settings(written) == {"a": [1, 2], "b": {"c": [1, 2]}}
    for text in ("", "- 1", "word"):
        with pytest.raises(ValueError, match="no settings"):
            read_settings(text)
