"""A signal ends what it comes into, and is taken for no fault of a file or a network."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from src.config.checks import ConfigError
from src.data.decoding.picture_files import decoder_errors
from src.machine.failures import RunFailed
from src.machine.interruption import Interrupted, Interruption
from src.training.checkpoints import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_picture_that_was_being_decoded_is_not_called_damaged(signum: signal.Signals) -> None:
    with pytest.raises(Interrupted) as caught, Interruption(), decoder_errors():
        signal.raise_signal(signum)
    assert caught.value.exit_code == 128 + signum


def test_a_checkpoint_that_was_being_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "last.ckpt"
    torch.save({}, file)
    read = torch.load

    def read_and_stop(*given: object, **named: object) -> object:
        found = read(*given, **named)  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGINT)
        return found

    monkeypatch.setattr(torch, "load", read_and_stop)
    with pytest.raises(Interrupted), Interruption():
        read_checkpoint(file)


def _read_and_close() -> None:
    """Be interrupted as a library is that closes what it never opened."""
    try:
        signal.raise_signal(signal.SIGTERM)
        opened = socket.socket()
    finally:
        opened.close()


def _read() -> None:
    try:
        _read_and_close()
    except UnboundLocalError:
        raise ConfigError("the file is damaged.") from None


def _save() -> None:
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        raise RunFailed("no room")


def test_what_is_raised_in_the_place_of_a_signal_leaves_as_the_signal() -> None:
    with pytest.raises(Interrupted) as caught, Interruption():
        _read()
    assert caught.value.exit_code == 143


def test_what_kept_the_state_from_being_saved_is_told() -> None:
    with pytest.raises(RunFailed, match="no room"), Interruption():
        _save()


# Tells when it begins to import what a command imports before it handles signals.
_SLOW = """
import sys, time
sys.path.insert(0, {root!r})
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "src.config.command_line":
            open({begun!r}, "w").close()
            time.sleep(600)
sys.meta_path.insert(0, Slow())
"""


def _from_a_terminal() -> None:
    """Let Ctrl-C come through in a child, also where the tests run in the background of a shell."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_before_a_command_handles_signals_one_ends_it_without_a_traceback(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    (tmp_path / "sitecustomize.py").write_text(_SLOW.format(root=str(ROOT), begun=str(begun)))
    process = subprocess.Popen(
        [sys.executable, "-m", "src.train", "--version"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_from_a_terminal,  # noqa: PLW1509 - no other thread is at work
    )
    while not begun.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert (process.communicate()[1], process.returncode) == ("", -signal.SIGINT)


def test_who_imports_the_package_keeps_the_handlers() -> None:
    program = (
        "import signal, src; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    )
    command = [sys.executable, "-c", program]
    subprocess.run(command, cwd=ROOT, check=True, preexec_fn=_from_a_terminal)
