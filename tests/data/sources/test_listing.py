from __future__ import annotations

from pathlib import Path

import pytest

from src.config.checks import ConfigError
from src.data.sources.listing import check_root, list_pictures
from tests.data.pictures import settings_of


@pytest.mark.parametrize("look", [list_pictures, check_root])
def test_a_path_that_no_shell_has_written_out_is_told(look: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="write out what ~ stands for"):
        look(settings_of(tmp_path, root="~/pets"))  # type: ignore[operator]


def test_the_root_of_a_published_set_may_be_written_as_an_address(tmp_path: Path) -> None:
    target = "src.data.sources.mnist.load"
    check_root(settings_of(tmp_path, _target_=target, root=f"file://{tmp_path}"))
    with pytest.raises(ConfigError, match="there is no such file or folder"):
        check_root(settings_of(tmp_path, _target_=target, root=f"file://{tmp_path}/none"))
