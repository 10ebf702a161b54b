"""A page of the pictures whose labels the model contradicts."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from ..machine.text import counted, percent
from ..records.pictures import SURE_SCORE, LabelReview, Pixels, shown
from .formatting import picture_name
from .page import html_page, picture_address

__all__ = ["label_page", "review_sentences"]

_MOST_SHOWN = 120
_SIDE = 160


def label_page(
    review: LabelReview, read: Callable[[int], Pixels], table: tuple[str, str] | None
) -> str:
    """Return the page; it needs no other file.

    Args:
        review: with at least one suspect.
        read: index -> picture (C, H, W).
        table: path of the CSV file to correct labels in, and the command that trains with it; None
            for a set that is no files.
    """
    shown = review.listed[:_MOST_SHOWN]
    return html_page(
        "label_page",
        "Labels to check",
        {
            "sentences": review_sentences(review),
            "facts_shown": [] if table is None else _next_steps(*table),
            "more": len(review.listed) - len(shown),
            "suspects": [
                {
                    "picture": _address(read(suspect.index)),
                    "label": suspect.label,
                    "suggested": suspect.suggested,
                    "score": f"{suspect.score:.2f}",
                    "path": suspect.path or "",
                    "name": picture_name(suspect.name),
                    "part": suspect.part,
                }
                for suspect in shown
            ],
        },
        {},
        pictures=True,
    )


def _next_steps(table: str, train: str) -> list[tuple[str, str, str]]:
    return [
        (
            "Next step",
            "Correct the column label of the table, or delete the lines of pictures that show none "
            "of the classes; then train with it.",
            "whole",
        ),
        ("Table", table, "command"),
        ("Train with it", train, "command"),
    ]


def review_sentences(review: LabelReview) -> list[str]:
    """Return what the review found, and how far it can be believed."""
    found = counted(len(review.suspects), "label")
    sure = f"{review.sure:,} of them" if review.sure else "none"
    odd = "label differs" if len(review.odd) == 1 else "labels differ"
    first = (
        f"{len(review.odd):,} {odd} from that of most pictures which are nearly equal, as shots of "
        "one object are, and come first."
    )
    return [
        *([first] if review.odd else []),
        f"The model contradicts {found} of {counted(review.pictures, 'picture')} held out of "
        f"training, {sure} with a score of {SURE_SCORE:g} or more.",
        f"The model agrees with {percent(review.agreement)} of the labels: the fewer, the more "
        "contradictions are its own mistakes, most of all those with low scores.",
    ]


def _address(pixels: Pixels) -> str:
    """Return a picture (C, H, W) as the address of a small PNG file."""
    drawn = shown(pixels)
    image = Image.fromarray(drawn[0] if len(drawn) == 1 else drawn.transpose(1, 2, 0).copy())
    image.thumbnail((_SIDE, _SIDE))
    return picture_address(image)
