"""The reference pages name every option and every command, since they are made from the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from docs.site.generated import commands_reference, options_reference, plain, type_in_words
from pipelines.cli import app
from sc3d.config import RunConfig
from sc3d.config_file import flat_values

OPTIONS = options_reference()


def test_every_option_is_there_once_and_no_other() -> None:
    named = re.findall(r"^````\{confval\} (\S+)$", OPTIONS, re.MULTILINE)
    assert len(named) == len(set(named))
    assert set(named) == flat_values(RunConfig()).keys() | {
        "ray.pools.ACTOR.min",
        "ray.pools.ACTOR.max",
        "ray.pools.ACTOR.num_gpus",
    }


def test_an_option_has_its_type_default_meaning_and_what_profiles_choose() -> None:
    assert block("match.alpha") == [
        ":type: number, at least 0, at most 1",
        ":default: `0.5`",
        "weight of the features that describe.sd names",
    ]
    transfer = block("match.transfer")
    assert transfer[:2] == [":type: `nearest`, `registration`, `transport` or `functional_map`", ":default: `registration`"]
    assert "With `profile=foundation` and `reconstruct.mesh=template`: `nearest`." in transfer
    assert block("dataset.category")[:2] == [":type: text, or none", ":default: none"]


def test_a_profile_is_not_said_to_choose_itself() -> None:
    assert not [line for line in block("profile") if line.startswith("With")]


def block(name: str) -> list[str]:
    """The lines of an option's entry, without empty ones."""
    return [line for line in OPTIONS.partition(f"{{confval}} {name}\n")[2].partition("````")[0].splitlines() if line]


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"type": "boolean"}, "`true` or `false`"),
        ({"type": "integer", "minimum": 1}, "whole number, at least 1"),
        ({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]}, "number, above 0, or none"),
        ({"type": "array", "items": {"enum": ["a", "b"], "type": "string"}}, "list, each: `a` or `b`"),
        ({"enum": ["a"], "type": "string"}, "`a`"),
    ],
)
def test_types_are_said_in_words(field: dict[str, object], words: str) -> None:
    assert type_in_words(field) == words


def test_text_is_no_markup() -> None:
    assert plain("<image_id>.npy, s3://* and {low, high}") == r"\<image\_id\>.npy, s3://\* and \{low, high\}"


def test_every_command_is_there_with_its_options() -> None:
    text = commands_reference()
    sections = {section.partition("`")[0]: section for section in re.split(r"^#+ `sc3d ", text, flags=re.MULTILINE)[1:]}
    commands = named_commands()
    assert sections.keys() == commands.keys()
    for name, command in commands.items():
        missing = [
            part.opts[0] for part in command.params if part.opts[0].startswith("--") and f"* `{part.opts[0]}" not in sections[name]
        ]
        assert missing == [], name
    assert "..." not in re.sub(r"\[ARGS\]\.\.\.|s3://\.\.\.", "", text), "a text was cut short"


def named_commands() -> dict[str, Any]:
    """``export labels`` -> the command, of all below ``sc3d``."""

    def below(command: Any, path: str) -> Iterator[tuple[str, Any]]:
        for name, one in getattr(command, "commands", {}).items():
            yield f"{path}{name}", one
            yield from below(one, f"{path}{name} ")

    return dict(below(typer.main.get_command(app), ""))
