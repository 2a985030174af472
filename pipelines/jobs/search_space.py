"""What the adapter level of a search varies: ``sweep.space`` as choices and ranges, and the weights that are matched already."""

from __future__ import annotations

import itertools
from typing import Any

from pipelines.stages.match import MatchStage
from sc3d.artefacts import MISSING
from sc3d.config import RunConfig
from sc3d.errors import ConfigError
from training.settings import DEFAULT, THRESHOLDS, TRAINED, WEIGHTS, domain_of, flat_space, same_weights, with_settings
from training.space import Choice, Range, Space


def search_space(config: RunConfig) -> Space:
    """The space of a configuration. Every value in it makes a valid configuration.

    Raises:
        ConfigError: an option that there is not or that is not searched, a value out of its range, weights that are not matched yet.
    """
    given = dict(flat_space(config.sweep.space)) if config.sweep.space else _default(config)
    known = (WEIGHTS, *THRESHOLDS, *TRAINED)
    unknown = sorted(given.keys() - set(known))
    if unknown:
        raise ConfigError(f"sweep.space: {', '.join(unknown)} cannot be searched; what can: {', '.join(known)}")
    space = {name: domain_of(name, values) for name, values in given.items()}
    for name, domain in space.items():
        ends = domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
        for value in ends:
            with_settings(config, {name: value}, "sweep.space")
    if WEIGHTS in space:
        _check_matched(config, space[WEIGHTS])
    return space


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


def matched_weights(config: RunConfig) -> list[tuple[float, float]]:
    """Which (alpha, beta) in multiples of 1 / sweep.steps, and the present ones, all pairs to label are matched with."""
    steps, present = config.sweep.steps, (config.match.alpha, config.match.beta)
    grid = [(a / steps, b / steps) for a, b in itertools.product(range(steps + 1), repeat=2) if 0 < a + b <= steps]
    if not any(same_weights(one, present) for one in grid):
        grid.append(present)
    return [present if same_weights(one, present) else one for one in grid if is_matched(config, one)]


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
