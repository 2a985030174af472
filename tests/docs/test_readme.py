"""README tells of the tree, the stages and the commands as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from pipelines.cli import app
from pipelines.stages.registry import STAGES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def rooms() -> set[str]:
    """What the picture of the rooms shows: folders, those of pipelines below it."""
    picture = README.partition("## Reading the code")[2].partition("```")[2].partition("```")[0]
    return {
        f"pipelines/{line.split('/')[0].strip()}" if line.startswith(" ") else line.split("/")[0]
        for line in picture.strip().splitlines()
    }


def packages(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob("*/__init__.py")}


def test_the_picture_of_the_rooms_is_the_tree() -> None:
    assert rooms() == (packages(ROOT) - {"tests"}) | {f"pipelines/{name}" for name in packages(ROOT / "pipelines")}


def test_what_to_read_first_is_there() -> None:
    order = README.partition("In this order:")[2].partition("Who")[0]
    files = re.findall(r"`([a-z0-9_/]+\.py)`", order)
    assert len(files) > 8
    assert [name for name in files if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_the_run_folder_shows_what_each_stage_keeps(stage: type) -> None:
    listing = README.partition("## The run folder")[2].partition("```")[2].partition("```")[0]
    assert any(line.startswith(f"{stage.folder}/<recipe>/") for line in listing.splitlines())


def test_each_command_is_named() -> None:
    table = README.partition("| command | what it makes |")[2].partition("\n\n")[0]
    names = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert {name for name in names if not re.search(rf"[`, ](sc3d )?{re.escape(name)}[`, ]", table)} == set()
