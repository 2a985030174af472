"""What a configuration calls by name and anybody may write: data sets, filters of matches, feature models.

A name is one of the project's own; ``module:Name`` of any module on Python's path; or an entry point of an installed package. Nothing is
imported before it is chosen.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from functools import cache, reduce
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from sc3d.errors import ConfigError
from sc3d.near_names import did_you_mean, near_names

DATASETS, FILTERS, SOURCES = "sc3d.datasets", "sc3d.filters", "sc3d.sources"
"""Groups of entry points."""

_OURS = {"sc3d", "actors", "training", "pipelines", "cluster"}


def find(group: str, name: str, known: Mapping[str, Any], what: str, advice: str = "") -> Any:
    """The object of a name.

    Args:
        group: the entry points that count, such as :data:`FILTERS`.
        name: one of ``known``, ``module:Name``, or the name of an entry point. A package cannot replace what is known.
        known: name -> the object, or ``module:Name`` in its place, which is imported only here.
        what: what messages call it, such as ``filter``.
        advice: what to do where a library that one of ``known`` needs is missing.

    Raises:
        ConfigError: there is no such name, with those that there are; or it cannot be imported, with what is missing.
    """
    where = f"{what} '{name}'"
    if name in known:
        return _load(known[name], where, advice, is_ours=True) if isinstance(known[name], str) else known[name]
    return _load(_target(group, name, known, what), where)


def names(group: str, known: Mapping[str, Any]) -> tuple[str, ...]:
    """The names that there are without writing a module: those of ``known``, then those of entry points."""
    return tuple(dict.fromkeys((*known, *_entry_points(group))))


def code_of(group: str, name: str, known: Mapping[str, Any], what: str) -> str:
    """What the code behind a name is: SHA-256 of the file of its module, so that results made with another version are told apart.

    Empty for one of ``known``, whose results change with a version that the project raises.

    Raises:
        ConfigError: as :func:`find`.
    """
    if name in known:
        return ""
    target = _target(group, name, known, what)
    _load(target, f"{what} '{name}'")
    file = getattr(sys.modules[target.partition(":")[0]], "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def _target(group: str, name: str, known: Mapping[str, Any], what: str) -> str:
    """``module:Name`` of what is not known."""
    if ":" in name:
        return name
    entry = _entry_points(group).get(name)
    if entry is None:
        there = names(group, known)
        near = did_you_mean(near_names(name, there))
        raise ConfigError(
            f"no {what} named '{name}'{near}; there are {', '.join(there)}; one of your own is "
            f"module:Name, or an entry point of {group}"
        )
    # Extras may follow in brackets, and spaces do not count.
    return entry.value.partition("[")[0].replace(" ", "")


def _entry_points(group: str) -> Mapping[str, EntryPoint]:
    return _scan(group, tuple(sys.path))


@cache
def _scan(group: str, path: tuple[str, ...]) -> Mapping[str, EntryPoint]:
    """The entry points of all packages on the path. A name is looked up for every pair of images, and a look takes milliseconds."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        # As with modules, the first on the path counts.
        found.setdefault(entry.name, entry)
    return found


def _load(target: str, where: str, advice: str = "", is_ours: bool = False) -> Any:
    module, _, attribute = target.partition(":")
    parts = attribute.split(".")
    if not all(part.isidentifier() for part in (*module.split("."), *parts)):
        raise ConfigError(f"{where}: '{target}' must look like module:Name")
    try:
        loaded = import_module(module)
    except ImportError as error:
        # A fault in our own modules is no missing library.
        if is_ours and _root(error.name) in _OURS:
            raise
        raise ConfigError(f"{where} cannot be loaded: {_missing(module, error, advice)}") from None
    try:
        return reduce(getattr, parts, loaded)
    except AttributeError:
        raise ConfigError(f"{where} cannot be loaded: {loaded} has no {attribute}") from None


def _missing(module: str, error: ImportError, advice: str) -> str:
    if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
        todo = advice or "install its package, or put its folder on PYTHONPATH, on every machine of the run"
        return f"there is no module '{error.name}'; {todo}"
    reason = f"the module {module} cannot be imported ({error})"
    return f"{reason}; {advice}" if advice else reason


def _root(module: str | None) -> str:
    return (module or "").partition(".")[0]
