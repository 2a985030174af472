"""What is wrong with a configuration, in words: misspelt options with those that are near, and words that YAML takes for something else."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import ValidationError

from sc3d.config import RunConfig
from sc3d.near_names import did_you_mean, near_names
from sc3d.parsed import problems

_AS_YAML_HAS_IT = {
    True: "YAML reads yes, on and true as the boolean true",
    False: "YAML reads no, off and false as the boolean false",
}


def config_problems(error: ValidationError) -> str:
    """What is wrong with which options of a run, in a line."""
    return problems(error, _explained)


def near_options(name: str) -> list[str]:
    """Options, as ``stage.option``, and stages that are near to a name that is none of them."""
    stage, _, option = name.rpartition(".")
    siblings = _options_of(stage)
    if siblings is not None and (near := near_names(option, siblings)):
        return [f"{stage}.{one}" if stage else one for one in near]
    every = list(_every_option())
    # Of another stage, or of none: the option is right, its place is not.
    elsewhere = [one for one in every if one.rpartition(".")[2] == option]
    return elsewhere[:3] or near_names(name, every)


def _explained(found: Mapping[str, Any]) -> str:
    """A message for a kind of error that has a better one than pydantic's; empty for the others."""
    kind, value = found["type"], found.get("input")
    name = ".".join(str(part) for part in found["loc"])
    if kind == "unexpected_keyword_argument":
        return f"there is no such option{did_you_mean(near_options(name))}"
    if kind == "string_type" and isinstance(value, bool):
        return f"must be a text, and {_AS_YAML_HAS_IT[value]}; put it in quotes, as in '{'yes' if value else 'no'}'"
    if kind == "string_type" and isinstance(value, (int, float)):
        return f"must be a text, and YAML reads this one as the number {value:g}; put it in quotes, as in '{value:g}'"
    if kind == "literal_error" and isinstance(value, str):
        near = near_names(value, str(found["ctx"]["expected"]).replace(" or ", ", ").replace("'", "").split(", "))
        return f"must be {found['ctx']['expected']}{did_you_mean(near)}"
    return ""


def _options_of(stage: str) -> list[str] | None:
    """The options of ``stage``, or of ``stage.option`` where that has options of its own; None if there is no such thing."""
    kind: Any = RunConfig
    for part in stage.split(".") if stage else ():
        kind = _inner(kind, part)
    return [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else None


def _inner(kind: Any, part: str) -> Any:
    """The type of a part of a type: of a field of a dataclass, or of any value of a mapping."""
    if dataclasses.is_dataclass(kind):
        return _plain(get_type_hints(kind).get(part))
    return _plain(get_args(kind)[1]) if get_origin(kind) is dict else None


def _plain(kind: Any) -> Any:
    """A type without what is annotated to it, and without None."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return next(_plain(one) for one in get_args(kind) if one is not type(None))
    return kind


@cache
def _every_option() -> tuple[str, ...]:
    def walk(kind: Any, prefix: str) -> Iterator[str]:
        for field in dataclasses.fields(kind):
            inner = _inner(kind, field.name)
            yield f"{prefix}{field.name}"
            if dataclasses.is_dataclass(inner):
                yield from walk(inner, f"{prefix}{field.name}.")

    return tuple(walk(RunConfig, ""))
