"""Settings that a search over trainings tries: options by name, what they may be, and the configuration that some of them stand for.

Settings are named as options are, ``train.learning_rate`` or ``label.tau_geo``, but for :data:`WEIGHTS`: the fusion weights [alpha, beta]
that the labels were matched with.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

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


def flat_space(space: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Options under their full names, whether they are written in one line or nested."""
    for name, value in space.items():
        if isinstance(value, dict) and not value.keys() & _RANGE:
            yield from flat_space(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def domain_of(name: str, values: Any) -> Choice | Range:
    """What an option of ``sweep.space`` may be.

    Raises:
        ConfigError: it is neither a list of values nor a range.
    """
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
            value = next((one for one in domain.values if same_weights(one, value)), value)
        if not contains(domain, value):
            return None
        found[name] = value
    return found


def same_weights(one: Any, other: Any) -> bool:
    """Whether two pairs of weights are the same to within rounding."""
    return all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(one, other, strict=True))


def best_options(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings as the options of a run, for ``--config``."""
    options: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        stage, _, option = name.partition(".")
        options.setdefault(stage, {}).update(
            {"alpha": value[0], "beta": value[1]}
            if name == WEIGHTS
            else {option: list(value) if isinstance(value, tuple) else value}
        )
    return options
