"""What the adapter level of a search varies: ``sweep.space`` as choices and ranges, and the configuration that some settings stand for.

Settings are named as options are, ``train.learning_rate`` or ``label.tau_geo``, but for :data:`WEIGHTS`: the fusion weights [alpha, beta]
that the labels were matched with.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.stages.match import MatchStage
from sc3d.artefacts import MISSING
from sc3d.config import RunConfig, TrainConfig
from sc3d.config_file import parse_config, to_values
from sc3d.errors import ConfigError
from training.checkpoint import UNCOUNTED
from training.space import Choice, Range, Space, contains

WEIGHTS = "match.weights"
THRESHOLDS = ("label.tau_cc", "label.tau_geo")
_NOT_SEARCHED = UNCOUNTED | {"steps", "validate_every", "validation_pairs", "validation_share", "precision"}
_RANGE = {"low", "high", "log"}
TRAINED = tuple(f"train.{one.name}" for one in dataclasses.fields(TrainConfig) if one.name not in _NOT_SEARCHED)

DEFAULT: Mapping[str, Any] = {
    "train.learning_rate": {"low": 5e-4, "high": 2e-2, "log": True},
    "train.dropout": [0.0, 0.1, 0.2, 0.4],
    "train.noise": [0.0, 0.5, 1.0],
    "train.negatives": ["labels", "map"],
    "train.both_ways": [False, True],
}
"""What is varied beside weights and thresholds where ``sweep.space`` is empty."""


def search_space(config: RunConfig) -> Space:
    """The space of a configuration. Every value in it makes a valid configuration.

    Raises:
        ConfigError: an option that there is not or that is not searched, a value out of its range, weights that are not matched yet.
    """
    given = dict(_flat(config.sweep.space)) if config.sweep.space else _default(config)
    known = (WEIGHTS, *THRESHOLDS, *TRAINED)
    unknown = sorted(given.keys() - set(known))
    if unknown:
        raise ConfigError(f"sweep.space: {', '.join(unknown)} cannot be searched; what can: {', '.join(known)}")
    space = {name: _domain(name, values) for name, values in given.items()}
    for name, domain in space.items():
        ends = domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
        for value in ends:
            with_settings(config, {name: value}, "sweep.space")
    if WEIGHTS in space:
        _check_matched(config, space[WEIGHTS])
    return space


def _flat(space: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Options under their full names, whether they are written in one line or nested."""
    for name, value in space.items():
        if isinstance(value, dict) and not value.keys() & _RANGE:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _default(config: RunConfig) -> dict[str, Any]:
    found: dict[str, Any] = dict(DEFAULT)
    for name in THRESHOLDS:
        option = name.partition(".")[2]
        widest, present = getattr(config.match, option), getattr(config.label, option)
        found[name] = sorted({*(tau for tau in getattr(config.sweep, option) if tau <= widest), present})
    matched = matched_weights(config)
    if len(matched) > 1:
        found[WEIGHTS] = [list(one) for one in matched]
    return found


def _domain(name: str, values: Any) -> Choice | Range:
    if isinstance(values, (list, tuple)) and values:
        return Choice(tuple(tuple(v) if isinstance(v, list) else v for v in values))
    if isinstance(values, dict) and {"low", "high"} <= values.keys() <= _RANGE and name != WEIGHTS:
        low, high, log = values["low"], values["high"], values.get("log", False)
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in (low, high))
        if numbers and low < high and isinstance(log, bool) and (low > 0 or not log):
            return Range(low, high, log)
    raise ConfigError(
        f"sweep.space: {name} must be a list of values, or {{low: ..., high: ..., log: true}} with low below high "
        f"(and above 0 with log), got {values!r}"
    )


def with_settings(config: RunConfig, settings: Mapping[str, Any], where: str = "settings") -> RunConfig:
    """The configuration with some settings replaced.

    Raises:
        ConfigError: one of them is out of its range.
    """
    values = to_values(config)
    for name, value in settings.items():
        if name == WEIGHTS:
            if not isinstance(value, (list, tuple)) or len(value) != 2:
                raise ConfigError(f"{where}: {WEIGHTS} are [alpha, beta], got {value!r}")
            values["match"] |= {"alpha": value[0], "beta": value[1]}
        else:
            stage, _, option = name.partition(".")
            values[stage][option] = value
    return parse_config(values, where)


def present_settings(config: RunConfig, space: Space) -> dict[str, Any] | None:
    """The settings that the run has now, if they lie in the space."""
    values = to_values(config)
    found: dict[str, Any] = {}
    for name, domain in space.items():
        stage, _, option = name.partition(".")
        value = (config.match.alpha, config.match.beta) if name == WEIGHTS else values[stage][option]
        if name == WEIGHTS and isinstance(domain, Choice):
            value = next((one for one in domain.values if _same_weights(one, value)), value)
        if not contains(domain, value):
            return None
        found[name] = value
    return found


def _same_weights(one: Any, other: Any) -> bool:
    return all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(one, other, strict=True))


def matched_weights(config: RunConfig) -> list[tuple[float, float]]:
    """Which (alpha, beta) in multiples of 1 / sweep.steps, and the present ones, all pairs to label are matched with."""
    steps, present = config.sweep.steps, (config.match.alpha, config.match.beta)
    grid = [(a / steps, b / steps) for a, b in itertools.product(range(steps + 1), repeat=2) if 0 < a + b <= steps]
    if not any(_same_weights(one, present) for one in grid):
        grid.append(present)
    return [present if _same_weights(one, present) else one for one in grid if is_matched(config, one)]


def is_matched(config: RunConfig, weights: tuple[float, float]) -> bool:
    """Whether all pairs to label are matched with these weights."""
    stage = MatchStage(with_settings(config, {WEIGHTS: weights}))
    return bool(stage.artefacts.files()) and bool((stage.artefacts.standing(stage.counted).state != MISSING).all())


def match_command(config: RunConfig, weights: tuple[float, float]) -> str:
    """What matches the pairs of a run with other weights."""
    alpha, beta = weights
    return f"sc3d match --run {config.run} --set match.alpha={alpha:.12g} --set match.beta={beta:.12g}"


def _check_matched(config: RunConfig, domain: Choice | Range) -> None:
    missing = [one for one in getattr(domain, "values", ()) if not is_matched(config, one)]
    if missing:
        commands = "; ".join(match_command(config, one) for one in missing)
        raise ConfigError(
            f"sweep.space: labels of other weights need matches with them, which are not (all) there for {len(missing)} of "
            f"{WEIGHTS}. Make them first: {commands}"
        )
