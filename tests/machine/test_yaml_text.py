"""Plain values as YAML and back."""

from __future__ import annotations

import os

import pytest
import yaml

from src.machine.yaml_text import read_yaml, yaml_text


def test_what_is_written_is_read_back_whatever_bytes_a_path_has() -> None:
    for name in (
        "pictures",
        "größe 图片 '\"",
        os.fsdecode(b"/data/\xff\xe9t\xe9"),
        "\ud800",
        "\\udcff",
    ):
        plain = {"z": {"root": name, "limit": None}, "a": [name, 1.5, True]}
        text = yaml_text(plain)
        assert read_yaml(text.encode().decode()) == plain
        assert text.index("z:") < text.index("a:")
    with pytest.raises(yaml.YAMLError):
        read_yaml('a: \'b\nc: "\\udcff"')
    with pytest.raises(yaml.YAMLError):
        read_yaml('a: !!python/name:os.system "\\udcff"')


@pytest.mark.parametrize("text", ["a: 1\nx: [", "a: 1\nx: *b", 'x: ["\\udcff"', "x: \x07"])
def test_what_is_no_yaml_is_said_in_one_line(text: str) -> None:
    with pytest.raises(yaml.YAMLError) as error:
        read_yaml(text)
    assert len(str(error.value).splitlines()) == 1
