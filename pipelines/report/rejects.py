"""What the stages of a run rejected, by stage and reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from pipelines.runner.stage import Stage
from pipelines.stages.registry import STAGES, stages_of
from sc3d.config import RunConfig
from sc3d.console import PlainConsole
from sc3d.errors import SchemaError
from sc3d.records import Reject
from sc3d.report.rejects import RejectGroup, group_rejects


def read_rejects(stage: Stage) -> list[Reject]:
    """The rejects of a stage that count. A file of them that cannot be read stands in their place, so that it is not overlooked."""
    try:
        return stage.rejects()
    except SchemaError as error:
        return [Reject("rejects", stage.name, type(error).__name__, str(error))]


def run(config: RunConfig, examples: int = 3) -> list[RejectGroup]:
    """The rejects of the stages of a run's present configuration, grouped; see :func:`~sc3d.report.rejects.group_rejects`."""
    return group_rejects((reject for stage in stages_of(config) for reject in read_rejects(stage)), examples)


def retry_command(groups: Sequence[RejectGroup]) -> str:
    """The commands that try rejected records again, of the stages that rejected some."""
    rejecting = {group.stage for group in groups}
    commands = dict.fromkeys(kind.command for kind in STAGES if kind.name in rejecting)
    return ", ".join(f"sc3d {command} --retry-rejects" for command in commands)


def reject_facts(config: RunConfig, groups: Sequence[RejectGroup]) -> dict[str, Any]:
    """Groups of rejects as plain values: groups, each with stage, error_type, reason, count, consequence and examples (id, message); the
    folder that all of them are in; and the command that tries them again, empty if there are none."""
    found = [
        {**dataclasses.asdict(group), "examples": [{"id": id_, "message": message} for id_, message in group.examples]}
        for group in groups
    ]
    return {"groups": found, "folder": f"{config.run}/rejects", "retry": retry_command(groups)}


def print_groups(config: RunConfig, groups: list[RejectGroup], console: PlainConsole | None = None) -> None:
    """Print groups of rejects with examples, and what can be done about them."""
    console = console or PlainConsole(soft_wrap=True)
    if not groups:
        console.print("Nothing was rejected.")
        return
    stage = ""
    for group in groups:
        if group.stage != stage:
            stage = group.stage
            console.print(f"\n{stage}", style="bold")
        follows = " (follows from rejects of an earlier stage)" if group.consequence else ""
        console.print(Text(f"{group.count:>8,} x {group.error_type}: {group.reason}").append(follows, "dim"))
        for id_, message in group.examples:
            console.print(f"           {id_}: {message}", style="dim")
    console.print(f"\nAll of them: {config.run}/rejects. Once mended: {retry_command(groups)}")
