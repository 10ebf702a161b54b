"""Pages that this machine serves to itself: their hosts, and which requests are meant for them.

A server on 127.0.0.1 answers whatever reaches it: pages on the internet through their visitor's
browser (DNS rebinding), and pages of other programs' servers on other ports.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

__all__ = ["HOST", "is_own", "own_hosts"]

HOST = "127.0.0.1"


def own_hosts(port: int) -> list[str]:
    """Return the values of the Host header that name a server on a port of this machine."""
    return [f"{HOST}:{port}", f"localhost:{port}"]


def is_own(headers: Mapping[str, str], method: str, hosts: Collection[str]) -> bool:
    """Return whether a request comes from the pages of these hosts, or from no page at all.

    Args:
        headers: by their names in lower case.
        method: such as GET.
        hosts: see `own_hosts`.
    """
    if headers.get("host") not in hosts:
        return False
    if headers.get("origin") not in (None, *(f"http://{host}" for host in hosts)):
        return False
    # Browsers set this for requests without an origin, such as those for an <img>; links on other
    # pages may lead here.
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return True
    return method == "GET" and headers.get("sec-fetch-mode") == "navigate"
