"""Find passwords and tokens in addresses, refuse them, and remove them from messages.

Settings are written down in many places (MLflow, studies, pages, messages), so nothing with
credentials is accepted; the libraries that need them read them from the environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote

__all__ = ["credentials_problem", "problem_of_overrides", "texts_of", "without_password"]

# Parameters of an address that hold a secret: `?sslpassword=`, `&sig=`, `;PWD=`.
_SECRET_KEY = (
    r"(?:[\w.\[\]-]*(?:passw(?:or)?d|passphrase|pwd|secret|token|cred(?:ential)?s?|signature|bearer"
    r"|jwt|oauth2?|authorization|(?:api|access|account|private|secret|subscription)[_-]?key)"
    r"|pass|pw|auth|sig|sas|key)(?:\[\w*\])?"
)
# Further parameters in the address of a server or database, by drivers that name them.
_PARAMETER = re.compile(r"[?&]\s*(?P<name>[^=?&;#\s]+)(?P<value>=?)|;\s*(?P<other>[^=?&;#\s]+)=")
_HARMLESS = re.compile(
    # PostgreSQL
    "host|port|dbname|service|passfile|options|application_name|client_encoding|krbsrvname"
    "|ssl(?:mode|rootcert|cert|key|crl)?|connect_timeout|tcp_user_timeout|target_session_attrs"
    "|keepalives(?:_idle|_interval|_count)?|load_balance_hosts|gssencmode|channel_binding"
    # MySQL and MariaDB
    "|charset|collation|read_default_(?:file|group)|unix_socket|use_unicode|(?:read|write)_timeout"
    "|ssl_(?:ca|cert|key|capath|mode|check_hostname|disabled)|autocommit"
    # SQL Server
    "|driver|encrypt|trustservercertificate|trusted_connection|multisubnetfailover",
    re.IGNORECASE,
)
_IN_QUERY = re.compile(rf"([?&;#]\s*{_SECRET_KEY}\s*=)\s*[^\s&;#'\"]+", re.IGNORECASE)
# The same as libpq and ODBC write it, `host=h password=p`: in an address alone, since elsewhere it
# may be a filter.
_IN_DSN = re.compile(rf"(?:^|[\s;,{{'\"]){_SECRET_KEY}\s*[=:]\s*\S", re.IGNORECASE)
# From where its run of signs begins, so that a long run is read once and not from each sign on.
_SCHEME = r"(?<![a-z0-9+.-])[0-9+.-]*(?P<scheme>[a-z][a-z0-9+.-]*)"
_TO_PASSWORD = re.compile(rf"{_SCHEME}(?:://|(?<=http|ttps|gres|ysql):/?)[^/\s:@]*:", re.IGNORECASE)
_USER = re.compile(rf"{_SCHEME}://[^/\s:@?#]+@", re.IGNORECASE)
# http://HOST:5000/a@b has a port, and digits directly before an @ are a password.
_PORT = re.compile(r"\d{1,5}[/?#]")
_NO_SCHEME = re.compile(r"^(?:\W*[/\s:@])?[^/\s:@]*:[^@]+@")
# Databases get a user's name by the address and the password by the environment; anywhere else
# a name alone may be a token.
_DATABASES = (
    *("postgresql", "postgres", "mysql", "mariadb"),
    *("mssql", "oracle", "sqlite", "cockroach"),
)
_ADDRESS_KEY = re.compile(r"(?:^|[._{+])(?:uri|url|storage|address)$", re.IGNORECASE)
_KEY = re.compile(r"[\w./@~+-]+")
_ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]*:\s*/", re.IGNORECASE)
_SQLITE = re.compile(r"\W*sqlite", re.IGNORECASE)
_BLANK = re.compile(r"[\x00-\x20]+")
_END_OF_SHOWN = re.compile(r"[\s'\"]|\Z")
_SHOWN_USER = re.compile(r"(https?://)[^/\s:@?#]+@", re.IGNORECASE)


def credentials_problem(value: str, key: str = "") -> str | None:
    """Return the fault of a value that holds a password or a token, without these, or None.

    Args:
        value: of a setting, however it is spelled (percent-encoded, in capitals, escaped).
        key: of the setting; that of an address is read more strictly.
    """
    is_address = bool(_ADDRESS_KEY.search(key))
    for spelled in _spellings(value):
        if scheme := _scheme_with_credentials(spelled, is_address):
            return (
                "it holds a password or token, which would be written down with the run: leave "
                f"that out of it and {_remedy(scheme, key)}"
            )
        # A token may be called anything: what is not known to be none is not written down.
        # Before the first ? stands the path, of SQLite that of a file of any name.
        asked = spelled.find("?") if is_address and not _SQLITE.match(spelled) else -1
        for match in _PARAMETER.finditer(spelled, asked) if asked >= 0 else ():
            name = match["name"] or match["other"]
            if not _HARMLESS.fullmatch(name):
                named = "one of its parameters" if match["value"] == "" else f"its parameter {name}"
                return (
                    f"{named} may be a password or token, and would be written down with the run: "
                    f"leave it out, and {_remedy(spelled.partition(':')[0], key)}"
                )
    return None


def problem_of_overrides(overrides: Sequence[str]) -> str | None:
    """Return the first `credentials_problem` of overrides as a whole sentence, or None."""
    for number, argument in enumerate(overrides, start=1):
        key, equals, value = argument.partition("=")
        named = bool(equals) and _KEY.fullmatch(key) and not credentials_problem(key)
        key = key.lstrip("+~-") if named else ""
        if problem := credentials_problem(value if named else argument, key):
            return f"{key or f'word {number} of the command line'}: {problem}."
    return None


def without_password(text: str) -> str:
    """Any text with *** for the passwords and tokens of the addresses in it.

    What is accepted holds none; this is for messages of libraries.
    """

    pieces, done = [], 0
    end = last = -1  # of a run without spaces and quotes, and of its last @
    for match in _TO_PASSWORD.finditer(text):
        begin = match.end()
        if begin < done or _is_port(match):
            continue
        if begin > end:
            end = _END_OF_SHOWN.search(text, begin).start()  # type: ignore[union-attr]
            last = max(text.rfind(at, begin, end) for at in ("@", "%40"))
        if last > begin:  # a password may hold any sign: up to the last @ before the host
            pieces += [text[done:begin], "***"]
            done = last
    text = "".join([*pieces, text[done:]])
    return _IN_QUERY.sub(r"\1***", _SHOWN_USER.sub(r"\1***@", text))


def texts_of(value: Any) -> Iterator[str]:
    """Return all texts in nested lists and dicts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts_of(item)


def _spellings(text: str) -> list[str]:
    """Return the text, and what decoding makes of it."""
    found = [text, text.replace("\\", "")]
    for _ in range(3):
        found.append(unquote(found[-1]))
    # Within an address, and nothing else, blanks and line ends hide no part of it.
    return [*found, *(_BLANK.sub("", one) for one in found if _ADDRESS.match(one))]


def _scheme_with_credentials(text: str, is_address: bool) -> str | None:
    """Return the scheme of an address with credentials ("address" where it has none), or None."""
    last = text.rfind("@")
    for match in _TO_PASSWORD.finditer(text):
        if match.end() < last and not _is_port(match):
            return match["scheme"].lower()
    for match in _USER.finditer(text):
        if not _is_database(match["scheme"]):
            return match["scheme"].lower()
    scheme = text.partition(":")[0].strip().lower() if "://" in text else "address"
    if _IN_QUERY.search(text):
        return scheme
    addressed = "@" in text and "://" not in text and _NO_SCHEME.match(text[: last + 1])
    if is_address and (_IN_DSN.search(text) or addressed):
        return scheme
    return None


def _is_port(match: re.Match[str]) -> bool:
    """Return whether an address goes on with a port; as databases' are read, that is a password."""
    return not _is_database(match["scheme"]) and bool(_PORT.match(match.string, match.end()))


def _is_database(scheme: str) -> bool:
    return scheme.lower().partition("+")[0] in _DATABASES


def _remedy(scheme: str, key: str) -> str:
    mlflow = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    if scheme.startswith("postgres"):
        return "set PGPASSWORD (or PGPASSFILE) in the environment"
    if scheme.startswith(("mysql", "mariadb")):
        return "name a file that holds it: ?read_default_file=FILE"
    if _is_database(scheme):
        return "let the database's driver find it: an ODBC data source, a trusted connection"
    if key.endswith(("uri", "address", "url")) or not key:
        return f"set {mlflow}, in the environment"
    if key == "storage":
        return "set PGPASSWORD (or what else the database's driver reads) in the environment"
    if key.endswith("root"):
        return (
            "set what the storage's own tools read in the environment, such as AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY for s3, or download what it names"
        )
    return "download what it names, then name the file or folder"
