"""JSON and YAML from outside -> plain values: bounded in size, in depth and in their numbers, and nothing but data."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

YAML_BYTES = 1 << 18
"""Of a text that people write, which is read at about 40 kB a second."""

MAX_DEPTH = 32
_MAX_DIGITS = 64
_NUMBERS = range(-(2**63), 2**63)
_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")
"""What JSON and YAML can name by an escape and no text can hold, so that it could be read and never written."""
_CORE = "tag:yaml.org,2002:"


def read_text(path: str | Path) -> str:
    """The text of a file, a pipe or a device, of which no more than :data:`YAML_BYTES` are read.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger, or no UTF-8.
    """
    with open(path, "rb") as stream:
        data = stream.read(YAML_BYTES + 1)
    return decoded(data)


def decoded(data: bytes) -> str:
    """Bytes as text, with or without a byte order mark.

    Raises:
        ValueError: there are more than :data:`YAML_BYTES`, or they are no UTF-8.
    """
    if len(data) > YAML_BYTES:
        raise ValueError(f"it is larger than the {YAML_BYTES / 1024:g} KB that are read")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: byte {error.start} is {data[error.start]:#04x}; save it as UTF-8") from None


def of_json(data: bytes) -> Any:
    """What a JSON text stands for.

    Raises:
        ValueError: it is no JSON, or goes beyond the bounds.
    """
    try:
        return bounded(json.loads(data))
    except RecursionError:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep") from None


def of_yaml(text: str) -> Any:
    """What a YAML text stands for: strings, numbers, booleans, nulls, lists, and mappings of names.

    Raises:
        ValueError: it is no YAML, names something twice, goes beyond the bounds, or has tags or aliases; with line and column.
    """
    try:
        return bounded(yaml.load(text, _PlainLoader))  # noqa: S506  (a SafeLoader that reads still less)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{place}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except OverflowError:
        raise ValueError("an escape names a character that Unicode does not have") from None


def bounded(values: Any) -> Any:
    """The same values.

    Raises:
        ValueError: they are nested more than :data:`MAX_DEPTH` deep, a whole number has more than 64 bits, or a name or text holds half a
            character (a lone surrogate); with its field.
    """
    left: list[tuple[Any, tuple[Any, ...]]] = [(values, ())]
    while left:
        value, path = left.pop()
        if isinstance(value, (dict, list, tuple)):
            if len(path) == MAX_DEPTH:
                raise ValueError(f"{field_name(path[:3])}...: it is nested more than {MAX_DEPTH} deep")
            parts = value.items() if isinstance(value, dict) else enumerate(value)
            if isinstance(value, dict) and any(_is_broken(name) for name in value):
                raise ValueError(f"{field_name(path)}: a name in it holds half a character")
            left += [(part, (*path, key)) for key, part in parts]
        elif isinstance(value, int) and value not in _NUMBERS:
            raise ValueError(f"{field_name(path)}: a whole number of more than 64 bits")
        elif _is_broken(value):
            raise ValueError(f"{field_name(path)}: a text that holds half a character")
    return values


def _is_broken(value: Any) -> bool:
    return isinstance(value, str) and not value.isascii() and _HALF_A_CHARACTER.search(value) is not None


def field_name(path: tuple[Any, ...]) -> str:
    """Where a value is, as ``stage.option.3``."""
    return ".".join(clipped(str(part), 80) or "''" for part in path) or "the whole"


def clipped(text: str, length: int) -> str:
    """A text that is not longer than it may be."""
    return text if len(text) <= length else f"{text[:length]}..."


class _PlainLoader(yaml.SafeLoader):
    """Reads no aliases, whose expansion has no bound, no tags, which choose a type, no dates, and no name twice in a mapping."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, f"aliases, such as *{event.anchor}, are not read", event.start_mark)
        if getattr(event, "tag", None):
            raise yaml.composer.ComposerError(None, None, f"tags, such as {event.tag}, are not read", event.start_mark)
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"it is nested more than {MAX_DEPTH} deep", event.start_mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        found: dict[Hashable, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "only a name can stand before a colon", key.start_mark)
            if key.value in found:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' is there twice", key.start_mark)
            found[key.value] = self.construct_object(value, deep=True)
        return found

    def construct_number(self, node: yaml.ScalarNode) -> float:
        """A number. Raises ConstructorError for what only looks like one, or is too long."""
        make = self.construct_yaml_int if node.tag == f"{_CORE}int" else self.construct_yaml_float
        try:
            if len(node.value) <= _MAX_DIGITS:
                number: float = make(node)
                return number
        except ValueError:  # such as 0b_
            pass
        raise yaml.constructor.ConstructorError(
            None, None, f"{clipped(node.value, 20)} is no number that can be read", node.start_mark
        )


for _name in ("int", "float"):
    _PlainLoader.add_constructor(f"{_CORE}{_name}", _PlainLoader.construct_number)
# What else plain text may be taken for: dates, and two signs of YAML's own.
for _name in ("timestamp", "merge", "value"):
    _PlainLoader.add_constructor(f"{_CORE}{_name}", _PlainLoader.construct_yaml_str)
