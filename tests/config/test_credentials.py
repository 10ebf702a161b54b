"""Passwords and tokens in what a person says: refused in every spelling, and never repeated."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from src.config.checks import ConfigError, to_plain
from src.config.command_line import run_entry
from src.config.compose import compose_settings, read_run_settings
from src.config.credentials import credentials_problem, problem_of_overrides, without_password
from src.config.schema import stored_settings
from src.config.sweep import read_sweep_settings
from src.config.tracking import ReplaySettings, TrackingPlace, uri_problem

SECRET = "s3cret"
ADDRESSES = [
    "http://me:s3cret@host:5000",
    "http://me:s3cret@host:5000/path",
    "https://s3cret@host",
    "HTTPS://ME:s3cret@HOST",
    "http%3A%2F%2Fme%3As3cret%40host",
    "https%253A%252F%252Fme%253As3cret%2540host",
    "http://me%3As3cret%40host",
    "http://me:s3cret%40x@host",
    "http://host:5000/?token=s3cret",
    "http://host:5000/?a=b&Access_Token=s3cret",
    "http://host/#auth=s3cret",
    "databricks://token:s3cret@host",
    "postgresql://me:s3cret@host/db",
    "postgresql+psycopg2://me:p@s3cret@host/db",
    "postgresql://me:p/s3cret?@host/db",
    "postgresql://:s3cret@host/db",
    "postgresql://host/db?user=me&password=s3cret",
    "POSTGRESQL://HOST/DB?PASSWORD=s3cret",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BUID%3Dme%3BPWD%3Ds3cret",
    "mysql://me:s3cret and more@host/db",
    "sqlite+pysqlcipher://:s3cret@/file",
    "host=h user=me password=s3cret",
    "me:s3cret@host:5000",
    "https:/me:s3cret@host",
    "https:me:s3cret@host",
    '"https://me:s3cret@host"',
    "http://host:5000/?to=https://me:s3cret@host",
    *(f"https://host/?{key}=s3cret" for key in ("jwt", "bearer", "sas", "pw", "oauth", "creds")),
    *("https://host/?user[password]=s3cret", "https://host/?password[]=s3cret"),
    *("https://host/?authorization=Bearer%20s3cret", "https://host/?subscription-key=s3cret"),
    *("http:// me:s3cret@host", "https://host/?tok%0Aen=s3cret", "https://host/?tok\ten=s3cret"),
    *("https://host/?token:s3cret", "https://host/?s3cret", "https://host/?user=me:s3cret"),
    *("https://host/?q=s3cret", "postgresql://host/db?sslmode=require&x=s3cret"),
]
OVERRIDES = [
    *(f"tracking.uri={address}" for address in ADDRESSES),
    *(f"storage={address}" for address in ADDRESSES),
    *("+tracking.uri=http://me:s3cret@host", "++tracking.uri=http://me:s3cret@host"),
    *("TRACKING.URI=http://me:s3cret@host", "traking.uri=http://me:s3cret@host"),
    *("tracking={uri:http://me:s3cret@host}", "http://me:s3cret@host", "http://me:s3cret@host=1"),
    *("--tracking.uri=http://me:s3cret@host", "--config-dir=http://me:s3cret@host"),
    *("data.root=s3://key:s3cret@bucket/pictures", "model.pretrained=https://s3cret@host/w.pt"),
    *("data.root=https://host/a.zip?X-Amz-Signature=s3cret", "images=https://host/?sig=s3cret"),
    *("tracking.experiment=http://me:s3cret@host", "seed=http://me:s3cret@host"),
    *(r"data.root=https\://me\:s3cret\@host", "resume=http://me:s3cret@host"),
]
HARMLESS = [
    *("tracking.uri=http://host:5000/a@b", "tracking.uri=sqlite:////a/b:c@d.db"),
    *("tracking.uri=sqlite:///a?b&c=d;e=f.db", "tracking.uri=http://host:5000/a&b;c=d"),
    *("tracking.uri=sqlite:///x.db?timeout=5", "tracking.uri=postgresql://me@host:1/db"),
    *("storage=postgresql://me@host/db?sslmode=require&passfile=/x", "tracking.uri=databricks"),
    *("tracking.uri=databricks://scope:prefix", "storage=mysql://me@h/d?read_default_file=/x"),
    *("filter=params.token = 'x' and metrics.`val/accuracy` > 0.9", "filter=tags.secret='y'"),
    *("data.root=/p/token=5/a:b@c", "images=/a b/x:y@z.png", "images=*.jpg?", "run=champion:a@b"),
    *("workers.address=10.0.0.1:6379", "tracking.experiment=me@work: photos"),
]


@pytest.mark.parametrize("override", OVERRIDES)
def test_every_spelling_is_refused_before_anything_is_written(
    override: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    reads: list[Any] = [read_run_settings, partial(read_sweep_settings, config_name="default")]
    for read in reads:
        for flags in ([], ["-m"], ["--cfg", "job"], ["--help"]):
            code = run_entry("", read, _never, argv=["seed=1", override, *flags])
            said = capsys.readouterr()
            assert code == 2 and "password or token" in said.err, said
            assert SECRET not in said.out + said.err
    assert not list(tmp_path.iterdir())


def _never(settings: Any, overrides: Any) -> None:
    raise AssertionError("it was accepted")


def test_the_arguments_that_an_entry_takes_for_itself_are_looked_at_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--config-name", "http://me:s3cret@host"])
    assert run_entry("", read_run_settings, _never, argv=[]) == 2
    assert SECRET not in capsys.readouterr().err


@pytest.mark.parametrize("address", ["https://me:1234@host", "s3://me:0@host:99999/a", "me:1@host"])
def test_a_password_of_digits_is_none_of_the_ports(address: str) -> None:
    for spelled in (address, address.replace("@", "%40"), f"'{address}'"):
        problem = problem_of_overrides([f"tracking.uri={spelled}"])
        assert problem is not None and "password or token" in problem


@pytest.mark.parametrize("override", HARMLESS)
def test_what_only_looks_like_it_passes(override: str) -> None:
    assert problem_of_overrides([override]) is None


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("tracking.uri=http://a:b@c", "MLFLOW_TRACKING_PASSWORD"),
        ("tracking.uri=postgresql://a:b@c/d", "PGPASSWORD"),
        ("storage=postgresql://a:b@c/d", "PGPASSWORD"),
        ("storage=mysql://a:b@c/d", "read_default_file"),
        ("data.root=s3://a:b@c/d", "download"),
    ],
)
def test_the_sentence_names_the_key_and_what_to_do(override: str, remedy: str) -> None:
    problem = problem_of_overrides([override])
    assert problem is not None and remedy in problem
    assert problem.startswith(f"{override.partition('=')[0]}: it holds a password or token")


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_settings_hold_one_wherever_they_come_from(address: str) -> None:
    with pytest.raises(ConfigError, match="password or token") as caught:
        TrackingPlace(uri=address)
    assert SECRET not in str(caught.value)


def test_what_the_environment_puts_into_a_word_is_looked_at_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("A_DATABASE", "postgresql://me:s3cret@host/db")
    override = "tracking={uri:'${oc.env:A_DATABASE}'}"
    with pytest.raises(ConfigError, match="PGPASSWORD") as caught:
        compose_settings(ReplaySettings, [override])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("address", [a for a in ADDRESSES if uri_problem(a) is None])
def test_a_stored_run_with_one_is_refused_without_showing_it(address: str) -> None:
    plain = to_plain(read_run_settings(["model=mlp"]))
    plain["tracking"]["uri"] = address
    with pytest.raises(ConfigError, match="password or token") as caught:
        stored_settings(plain)
    assert SECRET not in str(caught.value)


def test_a_fault_of_ours_is_shown_without_the_passwords_of_libraries(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(settings: Any, overrides: Any) -> None:
        raise RuntimeError(
            "could not reach postgresql://me:p@s3cret@host/db nor http://h/?sig=s3cret"
        )

    assert run_entry("", read_run_settings, fail, argv=[]) == 1
    error = capsys.readouterr().err
    assert "Traceback" in error and "postgresql://me:***@host/db" in error
    assert SECRET not in error


def test_passwords_are_hidden_in_any_text() -> None:
    for shown, hidden in (
        ("uri=https://a:b@c d", "uri=https://a:***@c d"),
        ("http://:b@c", "http://:***@c"),
        ("http://a:1234@c:5000/d@e f@g", "http://a:***@e f@g"),
        ("s3://a:7@c", "s3://a:***@c"),
        ("http://c:5000/a@b", "http://c:5000/a@b"),
        (
            "http://c:5000/?to=https://a:b@d 1http://a:b@c",
            "http://c:5000/?to=https://a:***@d 1http://a:***@c",
        ),
        ("postgresql://c:5/a@b 'http://a:b' x@y", "postgresql://c:***@b 'http://a:b' x@y"),
        ("postgresql://a:p@ss/w@c/d", "postgresql://a:***@c/d"),
        ("https://token@c", "https://***@c"),
        ("http://c/?x=1&Token=b&y=2", "http://c/?x=1&Token=***&y=2"),
    ):
        assert without_password(shown) == hidden


@pytest.mark.parametrize("part", ["a", "a.", "1+", "a://b:", "a://b:'", "://", "?token", "? ", ":"])
@pytest.mark.parametrize("end", ["", " @c"])
def test_long_texts_without_addresses_take_no_time(part: str, end: str) -> None:
    text = part * (50_000 // len(part)) + end  # a minute, where time grows with the square
    begun = time.process_time()
    assert len(without_password(text)) <= len(text)
    credentials_problem(text, "tracking.uri")
    assert time.process_time() - begun < 3
