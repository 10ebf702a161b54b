"""The processor time of a search among heads, told from sizes alone, whatever else runs.

Constants are seconds of one thread of an AVX-512 server, measured for 400 to 7,200 pictures, 64 to
3,000 features and 2 to 100 classes. There a group of heads took 0.4 to 1.5 times as long, and all
of them 0.7 to 1.2 times.
"""

from __future__ import annotations

from .grid import Group

__all__ = ["axes_seconds", "group_seconds"]

# Of a multiply-add: in products of large matrices, and in those of a descent with all its steps.
_PRODUCT, _DESCENT = 1e-10, 1.5e-9
# Of a pair of pictures: in a kernel machine, and in those of a class against each of the others.
_PAIR, _PAIR_OF_CLASS = 2.3e-8, 7e-10
# Of a multiply-add in the system that a sample of pictures makes.
_SAMPLED = 3.5e-11
# Of calibrating a head: in any case, and for a score.
_HEAD, _SCORE = 1e-3, 2.5e-7


def axes_seconds(rows: int, held: int, features: int) -> float:
    """Return the seconds that a `View` of so many rows takes, of which others are held out."""
    return 2 * _PRODUCT * (rows + held) * features * min(rows, features)


def group_seconds(group: Group, rows: int, held: int, features: int, classes: int) -> float:
    """Return the seconds that a group's scores on a `View` take, with their calibration."""
    heads, values = len(group.heads), dict(group.heads[0].values)
    found = heads * (_HEAD + _SCORE * held * classes)
    match group.kind:
        case "logistic" | "linear_svm":
            return found + heads * (_HEAD + _DESCENT * rows * features * classes)
        case "knn":
            return found + _PRODUCT * rows * held * features
        case "rbf_svm" if values["exact_up_to"] > 0:
            return found + heads * (_PAIR + _PAIR_OF_CLASS * classes) * rows**2
        case "rbf_svm":
            return found + heads * _SAMPLED * rows * values["components"] ** 2
        case _:
            return found + _PRODUCT * (rows + heads * held) * features * classes
