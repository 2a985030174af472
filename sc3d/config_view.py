"""A view of a run's configuration that shows declared options and refuses all others.

What a stage or an actor makes can only depend on the options that it declares, since it sees no others; so its recipe, which follows from
the declaration, cannot miss one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any, cast

from sc3d.config import RunConfig
from sc3d.errors import UndeclaredOptionError

PLACES = (
    "run",
    "profile",
    "max_reject_fraction",
    "ray",
    "dataset.root",
    "dataset.download",
    "match.device",
    "models.cache",
    "models.device",
    "models.dtype",
    "models.variant",
    "models.sam3d_environment",
)
"""Options that say where and how something is computed, not what: everybody may read them, and no recipe holds them. The variant of the
models is here since it chooses actors and weights, which are in the recipe themselves; of a dataset's root counts what lies there."""


def view_of(config: RunConfig, options: Iterable[str]) -> RunConfig:
    """The configuration with only some options, given as ``stage`` (all of its options) or ``stage.option``, and :data:`PLACES`.

    Whatever else is read raises :class:`~sc3d.errors.UndeclaredOptionError`. Properties of the configuration's classes work as far as
    the options behind them are shown. A stage of which all is shown is the plain dataclass.
    """
    return cast(RunConfig, _View(config, frozenset([*options, *PLACES])))


def values_of(config: RunConfig, options: Sequence[str]) -> dict[str, Any]:
    """Option -> its value, as plain JSON values, without :data:`PLACES`."""
    return {option: _counted(option, reduce(getattr, option.split("."), cast(Any, config))) for option in options}


def _counted(path: str, value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        fields = {field.name: f"{path}.{field.name}" for field in dataclasses.fields(value)}
        return {name: _counted(inner, getattr(value, name)) for name, inner in fields.items() if inner not in PLACES}
    return value


class _View:
    """Stands for the part of a configuration at ``prefix``."""

    def __init__(self, shown: Any, options: frozenset[str], prefix: str = "") -> None:
        self._shown, self._options, self._prefix = shown, options, prefix

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        path = f"{self._prefix}{name}"
        if name in {field.name for field in dataclasses.fields(self._shown)}:
            if path in self._options:
                return getattr(self._shown, name)
            if any(option.startswith(f"{path}.") for option in self._options):
                return _View(getattr(self._shown, name), self._options, f"{path}.")
            raise UndeclaredOptionError(f"the option {path} is read but not declared: add it to `options`, or do not read it")
        return getattr(type(self._shown), name).__get__(self)
