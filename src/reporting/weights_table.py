"""The pretrained networks that a machine can load, as a person chooses among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from src.reporting.formatting import count
from src.reporting.tables import Table

if TYPE_CHECKING:  # torch takes a moment
    from src.models.weights import Published

__all__ = ["format_weights"]

_HEADERS = ("model", "model.name", "from", "pixels", "params", "top-1", "licence")
_ELSEWHERE = (
    "Any other network of timm or torchvision is fetched once, where the hub can be reached:\n"
    "  python -m src.train model=timm model.name=NAME model.pretrained=true"
)


def format_weights(networks: Sequence[Published], width: int) -> str:
    """Return the table and how its networks are named on a command line.

    Args:
        networks: one a row, in this order.
        width: cells of a line; the last column is cut where a line would be longer.
    """
    if not networks:
        return f"This machine can load no pretrained network without a connection.\n{_ELSEWHERE}"
    table = Table(
        "Pretrained networks that load here without a connection",
        _HEADERS,
        tuple(_cells(one) for one in networks),
        frozenset({3, 4, 5}),
    )
    first = networks[0]
    lines = [
        table.text(width),
        "",
        "pixels: side that model.input_size=null resizes to; top-1: published, on ImageNet-1k",
        "",
        "Train one:",
        f"  python -m src.train model={first.library} model.name={first.name} "
        "model.pretrained=true",
    ]
    of_timm = next((one for one in networks if one.library == "timm"), None)
    if of_timm is not None:
        lines += [
            "Take its features as they are, under a classical classifier:",
            f"  python -m src.train model=embedding model.networks=[{of_timm.name}] "
            "model.pretrained=true",
        ]
    return "\n".join([*lines, _ELSEWHERE])


def _cells(one: Published) -> tuple[str, ...]:
    return (
        one.library,
        one.name,
        one.source.replace("hugging face", "hub"),  # or long names would not fit in a line
        _or_dash(one.input_size, "{}"),
        count(one.parameters),
        _or_dash(one.accuracy, "{:.1f} %"),
        _or_dash(one.licence, "{}"),
    )


def _or_dash(value: float | str | None, pattern: str) -> str:
    return "-" if value is None else pattern.format(value)
