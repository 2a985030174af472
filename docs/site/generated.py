"""What the reference pages of the site say of options and commands, as Markdown, made from the code that they are in."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import TypeAdapter

from sc3d.config import RunConfig
from sc3d.config_file import flat_values, load_config
from sc3d.config_presets import MESHES, PRESETS, PROFILES

CHOICES = (
    *(f"profile={name}" for name in PROFILES),
    *(f"reconstruct.mesh={name}" for name in MESHES),
    *(f"train.preset={name}" for name in PRESETS),
)
"""What chooses other options where nothing else is said."""

_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
_TYPES = {"boolean": "`true` or `false`", "integer": "whole number", "number": "number", "string": "text", "object": "mapping"}


def options_reference() -> str:
    """Every option of a run: its type, its default, what it means, and what profiles and presets choose instead."""
    schema = TypeAdapter(RunConfig).json_schema()
    defaults = flat_values(load_config())
    chosen = {choice: flat_values(load_config(overrides=[choice])) for choice in CHOICES}

    def section(prefix: str, properties: dict[str, Any]) -> Iterator[str]:
        for name, field in properties.items():
            if "$ref" not in field:
                full = prefix + name
                others = {
                    choice: values[full]
                    for choice, values in chosen.items()
                    if values[full] != defaults[full] and not choice.startswith(f"{full}=")
                }
                yield _option(full, field, defaults[full], others)
        for name, field in properties.items():
            if "$ref" in field:
                below = schema["$defs"][field["$ref"].rpartition("/")[2]]
                yield f"{'#' * (2 + prefix.count('.'))} `{prefix}{name}`\n\n{_paragraph(below['description'])}"
                yield from section(f"{prefix}{name}.", below["properties"])

    pool = schema["$defs"]["PoolConfig"]["properties"]
    pools = [
        "### A pool",
        "What `ray.pools` says of an actor.",
        *(_option(f"ray.pools.ACTOR.{name}", field, field["default"], {}) for name, field in pool.items()),
    ]
    return "\n\n".join([*section("", schema["properties"]), *pools])


def _option(name: str, field: dict[str, Any], default: Any, others: dict[str, Any]) -> str:
    also = [f"With {' and '.join(f'`{one}`' for one in choices)}: {value}." for value, choices in _by_value(others).items()]
    text = [plain(field["description"]), *also]
    return "\n".join(
        (f"````{{confval}} {name}", f":type: {type_in_words(field)}", f":default: {_value(default)}", "", "\n\n".join(text), "````")
    )


def _by_value(others: dict[str, Any]) -> dict[str, list[str]]:
    """Value -> what chooses it."""
    found: dict[str, list[str]] = {}
    for choice, value in others.items():
        found.setdefault(_value(value), []).append(choice)
    return found


def type_in_words(field: dict[str, Any]) -> str:
    """What values a field of a JSON schema takes."""
    if "anyOf" in field:
        kinds = [type_in_words(one) for one in field["anyOf"] if one != {"type": "null"}]
        return ", or ".join([*kinds, "none"] if {"type": "null"} in field["anyOf"] else kinds)
    if "enum" in field:
        *most, last = (f"`{one}`" for one in field["enum"])
        return f"{', '.join(most)} or {last}" if most else last
    if field.get("type") == "array":
        return f"list, each: {type_in_words(field['items'])}"
    bounds = [f"{words} {field[name]}" for name, words in _BOUNDS.items() if name in field]
    return ", ".join([_TYPES[field["type"]], *bounds])


def _value(value: Any) -> str:
    """A value as a YAML file has it."""
    return (
        "none"
        if value is None
        else f"`{json.dumps(value, ensure_ascii=False)}`"
        if not isinstance(value, str) or not value
        else f"`{value}`"
    )


def _paragraph(docstring: str) -> str:
    """The first paragraph of a docstring, whose markup is reStructuredText's."""
    return f"```{{eval-rst}}\n{docstring.strip().partition(chr(10) * 2)[0]}\n```"


def plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>{}|#&$~!])", r"\\\1", text)


def commands_reference() -> str:
    """Every command with its arguments and options, as Typer itself writes them down."""
    told = subprocess.run(
        [sys.executable, "-m", "typer", "pipelines.cli", "utils", "docs", "--name", "sc3d"],
        capture_output=True,
        text=True,
        check=True,
    )
    # Its lists of commands cut each text short; the headings below say the same.
    whole = re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+\n*", "", told.stdout)
    # Options in prose as code, or their hyphens become a dash.
    return re.sub(r"(?<![`\w-])--[a-z][a-z-]*(?!.*`: )", r"`\g<0>`", whole.partition("\n")[2].strip())


MARKERS: dict[str, Callable[[], str]] = {"<!-- options -->": options_reference, "<!-- commands -->": commands_reference}
"""What stands on a page -> what makes the text in its place."""
