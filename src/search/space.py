"""Search spaces: the keys of a run by family, with ranges, choices and conditions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.trial import BaseTrial

__all__ = ["FAMILY", "Family", "Kind", "Parameter", "StudySpec", "Value", "parse_space"]

# The study's parameter that names the family of a trial.
FAMILY = "family"
Value = bool | int | float | str | list[Any] | None
# Part of a parameter's range by which two configurations may differ and be near each other.
_NEAR = 0.1
_Conditions = tuple[tuple[str, tuple[Value, ...]], ...]
_KEYS = {"low", "high", "log", "step", "choices", "when"}


@dataclass(frozen=True)
class Parameter:
    """The range or the choices of one key, under one condition.

    Attributes:
        key: dotted key of a run's settings, or a config group.
        name: unique within the family; that of the study's parameter.
        choices: the values it may have; empty for a range.
        low, high: bounds, both included.
        log: whether to draw the logarithm evenly.
        step: between values; None for any float, and for every whole number.
        when: other keys of the family with the values that they must have; the parameter is unused
            where they have others.
    """

    key: str
    name: str
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    whole: bool = False
    when: _Conditions = ()

    def applies(self, values: Mapping[str, Value]) -> bool:
        """Return whether its conditions hold for these values of other keys."""
        return all(key in values and values[key] in allowed for key, allowed in self.when)

    def suggest(self, trial: BaseTrial, name: str) -> Any:
        """Return what a trial's sampler chooses, as stored under `name`; choices by their text."""
        if self.choices:
            return trial.suggest_categorical(name, [_text(value) for value in self.choices])
        if self.whole:
            step = 1 if self.step is None else int(self.step)
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log, step=step)
        return trial.suggest_float(name, self.low, self.high, log=self.log, step=self.step)

    def stored(self, value: Value) -> Any:
        """Return a value as the study keeps it; ValueError if the parameter may not have it."""
        if self.choices:
            same = [choice for choice in self.choices if _equal(choice, value)]
            if not same:
                raise ValueError(f"{_text(value)} is none of {', '.join(map(_text, self.choices))}")
            return _text(same[0])
        if not _is_number(value) or not self.low <= value <= self.high:
            raise ValueError(f"{_text(value)} does not lie in {self.low:g} to {self.high:g}")
        if not _is_step(value, self.low, self.step or (1 if self.whole else None)):
            raise ValueError(f"{_text(value)} is no step of {self.step or 1:g} from {self.low:g}")
        return value

    def value(self, stored: Any) -> Value:
        """Return the value that `stored` stands for. Floats keep six digits, which is readable."""
        if self.choices:
            return next(choice for choice in self.choices if _text(choice) == stored)
        return int(stored) if self.whole else float(f"{stored:.6g}")

    def distance(self, one: Value, other: Value) -> float:
        """Return how far apart two values are, in parts of the range, on its scale.

        0 or 1 for choices; so of range and values as in Gower (1971).
        """
        if self.choices or not _is_number(one) or not _is_number(other):
            return 0.0 if _equal(one, other) else 1.0
        scale = math.log if self.log else float
        width = scale(self.high) - scale(self.low)
        return min(1.0, abs(scale(one) - scale(other)) / width)

    def extremes(self) -> tuple[Value, ...]:
        """Return all choices, or both bounds."""
        if self.choices:
            return self.choices
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)

    def options(self) -> Sequence[Any] | None:
        """Return all that the study may keep for it; None of a range of floats without steps."""
        if self.choices:
            return [_text(value) for value in self.choices]
        if self.whole:
            return range(int(self.low), int(self.high) + 1, int(self.step or 1))
        if self.step is None:
            return None
        count = round((self.high - self.low) / self.step) + 1
        # Rounded, so that 0.1 * 3 is the 0.3 that a default may have.
        return [round(self.low + self.step * i, 12) for i in range(count)]

    def plain(self) -> dict[str, Any]:
        """Return what identifies the parameter, as plain values."""
        if self.choices:
            known: dict[str, Any] = {"choices": [_text(value) for value in self.choices]}
        else:
            known = {"low": self.low, "high": self.high, "log": self.log, "step": self.step}
        when = {key: [_text(value) for value in values] for key, values in self.when}
        return known | ({"when": when} if when else {})


@dataclass(frozen=True)
class Family:
    """A kind of candidate, named as its file in sweeps/spaces/ is.

    Attributes:
        overrides: what all of its configurations share.
        parameters: each after those that its conditions read.
        constants: values of keys that conditions read and that are not searched.
    """

    name: str
    overrides: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    constants: Mapping[str, Value]

    def draw(self, trial: BaseTrial) -> dict[str, Value]:
        """Return what the trial's sampler chooses for each key that is used."""
        values = dict(self.constants)
        drawn: dict[str, Value] = {}
        for parameter in self.parameters:
            if parameter.applies(values):
                stored = parameter.suggest(trial, self.stored_name(parameter))
                drawn[parameter.key] = values[parameter.key] = parameter.value(stored)
        return drawn

    def stored_values(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """Return the study's parameters that stand for these values.

        ValueError if one is missing, or its parameter may not have it.
        """
        known = {**self.constants, **values}
        stored = {}
        for parameter in self.parameters:
            if parameter.applies(known):
                if parameter.key not in values:
                    raise ValueError(f"{parameter.key} has no value")
                try:
                    stored[self.stored_name(parameter)] = parameter.stored(values[parameter.key])
                except ValueError as error:
                    raise ValueError(f"{parameter.key}: {error}") from None
        return stored

    def stored_choices(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """Return the study's parameters that stand for some of its values."""
        return {
            self.stored_name(parameter): parameter.stored(values[parameter.key])
            for parameter in self.parameters
            if parameter.key in values and parameter.applies({**self.constants, **values})
        }

    def is_open(self, tried: Sequence[Mapping[str, Any]], fixed: Mapping[str, Any]) -> bool:
        """Return whether some configuration with these values is none of those that were tried.

        Args:
            tried: the study's parameters of each.
            fixed: some of the study's parameters, which the configuration must have.
        """
        return self.is_endless(fixed) or self._is_open(
            self.parameters, self.constants, tried, fixed
        )

    def is_endless(self, fixed: Mapping[str, Any]) -> bool:
        """Return whether configurations with these values, as of `is_open`, have a range of floats.

        No two of them are drawn alike, so that nobody needs to look at what was tried.
        """
        values = dict(self.constants)
        for parameter in self.parameters:
            if parameter.applies(values):
                if parameter.options() is None:
                    return True
                if (name := self.stored_name(parameter)) in fixed:
                    values[parameter.key] = parameter.value(fixed[name])
        return False

    def _is_open(
        self,
        parameters: Sequence[Parameter],
        values: Mapping[str, Value],
        tried: Sequence[Mapping[str, Any]],
        fixed: Mapping[str, Any],
    ) -> bool:
        """Return `is_open`, where `values` are chosen and only `parameters` are yet to be."""
        used = (i for i, parameter in enumerate(parameters, 1) if parameter.applies(values))
        if not tried or (place := next(used, None)) is None:
            return not tried
        parameter, rest = parameters[place - 1], parameters[place:]
        name = self.stored_name(parameter)
        options = [fixed[name]] if name in fixed else parameter.options()
        if options is None or len(options) > len(tried):  # one of them is in none
            return True
        return any(
            self._is_open(
                rest,
                {**values, parameter.key: parameter.value(option)},
                [one for one in tried if _stored_alike(one.get(name), option)],
                fixed,
            )
            for option in options
        )

    def are_near(
        self, one: Mapping[str, Value], other: Mapping[str, Value], share: float = _NEAR
    ) -> bool:
        """Return whether two configurations differ in numbers alone, by a share of each range."""
        if one.keys() != other.keys():
            return False
        known = {**self.constants, **one}
        used = {p.key: p for p in self.parameters if p.key in one and p.applies(known)}
        differing = [key for key in one if one[key] != other[key]]
        if any(key not in used or used[key].choices for key in differing):
            return False
        return all(used[key].distance(one[key], other[key]) <= share for key in differing)

    def stored_name(self, parameter: Parameter) -> str:
        """Return the name of the study's parameter, unique among all families."""
        return f"{self.name}/{parameter.name}"

    def plain(self) -> dict[str, Any]:
        """Return what identifies the family, as plain values."""
        parameters = {parameter.name: parameter.plain() for parameter in self.parameters}
        return {"overrides": list(self.overrides), "space": parameters}


@dataclass(frozen=True)
class Kind:
    """The trials of a family that have these values of some of its keys; none for all of them.

    Attributes:
        among: values of further keys, of which a trial that is proposed has one; empty where they
            are free.
    """

    family: str
    values: Mapping[str, Value] = field(default_factory=dict)
    among: Sequence[Mapping[str, Value]] = ()

    def holds(self, family: str | None, values: Mapping[str, Value]) -> bool:
        """Return whether a trial of this family with these values is one of them."""
        return family == self.family and self.values.items() <= values.items()


@dataclass(frozen=True)
class StudySpec:
    """The identity of a study, and how it proposes.

    Attributes:
        metrics: names for readers, by key; trials are judged by the first one.
        directions: "maximize" or "minimize", one a metric.
        identity: plain values that must not change between starts.
        sampler: its name, as in `check_sampler`.
        startup_trials: random ones before the sampler learns, of all families together.
        meaning: of an identity; two with the same one are of the same study, however they are
            written.
    """

    name: str
    families: Sequence[Family]
    metrics: Mapping[str, str]
    directions: Sequence[str]
    identity: Mapping[str, Any]
    sampler: str
    startup_trials: int
    seed: int
    pruner: BasePruner
    meaning: Callable[[Any], Any] = lambda identity: identity


def parse_space(plain: Mapping[str, Any]) -> list[Parameter]:
    """Return the parameters of a space as sweeps/spaces/ has it.

    Args:
        plain: by key, `{choices: [...]}` or `{low, high, log, step}`, perhaps with
            `when: {other key: value or list of values}`; a list of such for a key whose range
            depends on others.

    Raises:
        ValueError: the space is invalid; the message names key, value and what is allowed.
    """
    parameters = []
    for key, spec in plain.items():
        options = spec if isinstance(spec, list) else [spec]
        for option in options:
            if not isinstance(option, Mapping):
                raise ValueError(f"{key} is {option!r}: it must be choices, or low and high")
            try:
                when = _conditions(option)
                held = (f"{other}={'|'.join(map(_text, allowed))}" for other, allowed in when)
                name = key if len(options) == 1 else f"{key}@{','.join(held)}"
                parameters.append(_parameter(key, name, option, when))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{key}: {error}") from None
    names = [parameter.name for parameter in parameters]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"{name} is there twice: ranges of one key need conditions that differ"
            )
    return _ordered(parameters)


def _parameter(key: str, name: str, spec: Mapping[str, Any], when: _Conditions) -> Parameter:
    if unknown := sorted(set(spec) - _KEYS):
        raise ValueError(f"{unknown[0]} is not known: there are {', '.join(sorted(_KEYS))}")
    if "choices" in spec:
        return Parameter(key, name, choices=_choices(spec), when=when)
    low, high, step, log = (spec.get(bound) for bound in ("low", "high", "step", "log"))
    if not _is_number(low) or not _is_number(high):
        raise ValueError("it needs choices, or numbers as low and high")
    if low >= high:
        raise ValueError(f"low ({low:g}) must be below high ({high:g})")
    if log not in (None, True, False):
        raise ValueError("log must be true or false")
    if log and (low <= 0 or step is not None):
        raise ValueError("log needs a low above 0, and goes without step")
    whole = isinstance(low, int) and isinstance(high, int)
    if step is not None:
        _check_step(step, low, high, whole)
    return Parameter(
        key, name, low=low, high=high, log=bool(log), step=step, whole=whole, when=when
    )


def _check_step(step: Any, low: float, high: float, whole: bool) -> None:
    if not _is_number(step) or step <= 0:
        raise ValueError(f"step ({step}) must be a number above 0")
    if whole and not isinstance(step, int):
        raise ValueError(f"step ({step:g}) must be a whole number, as low and high are")
    if not _is_step(high, low, step):
        raise ValueError(f"high ({high:g}) is no step of {step:g} from low ({low:g})")


def _conditions(spec: Mapping[str, Any]) -> _Conditions:
    when = spec.get("when") or {}
    if not isinstance(when, Mapping):
        raise ValueError("when must name other keys with their values")
    return tuple(
        (other, tuple(values) if isinstance(values, list) else (values,))
        for other, values in when.items()
    )


def _choices(spec: Mapping[str, Any]) -> tuple[Value, ...]:
    choices = spec["choices"]
    if not isinstance(choices, list):
        raise ValueError("choices must be a list")
    if not choices or {"low", "high", "log", "step"} & set(spec):
        raise ValueError("choices must not be empty, and go without low, high, log and step")
    if len({_text(choice) for choice in choices}) < len(choices):
        raise ValueError("one of the choices is there twice")
    return tuple(choices)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _ordered(parameters: Sequence[Parameter]) -> list[Parameter]:
    """Return the parameters, each after those that its conditions read."""
    ordered: list[Parameter] = []
    waiting = list(parameters)
    while waiting:
        open_keys = {parameter.key for parameter in waiting}
        ready = [p for p in waiting if not any(key in open_keys for key, _ in p.when)]
        if not ready:
            raise ValueError(f"the conditions of {waiting[0].key} and others go in a circle")
        ordered += ready
        waiting = [parameter for parameter in waiting if parameter not in ready]
    return ordered


def _is_step(value: float, low: float, step: float | None) -> bool:
    steps = 0 if step is None else (value - low) / step
    return abs(steps - round(steps)) < 1e-8


def _equal(one: Value, other: Value) -> bool:
    """Return whether two values are the same: 2 is 2.0, but 1 is not true."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _stored_alike(one: Any, other: Any) -> bool:
    """Return whether two stored values are the same; floats but for how their steps were added."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)


def _text(value: Value) -> str:
    return value if isinstance(value, str) else json.dumps(value)
