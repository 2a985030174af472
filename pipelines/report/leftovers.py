"""What is left over in a run folder, for people."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pipelines.stages.leftovers import Leftover, find_leftovers
from sc3d.config import RunConfig
from sc3d.console import PlainConsole
from sc3d.errors import Sc3dError


def print_leftovers(config: RunConfig) -> None:
    """Print what a run folder has of photos and pairs that do not count any more, if anything, and what removes it."""
    try:
        found = [one for one in find_leftovers(config) if not one.other]
    except Sc3dError:
        # What it would be measured by cannot be told here, such as the identity of weights that this machine does not have.
        return
    rows = sum(one.rows for one in found)
    if found:
        what = ", ".join(f"{one.stage} {one.rows:,}" for one in found if one.rows)
        doubled = sum(one.doubled for one in found)
        twice = f", {doubled:,} of them of ids that are there twice" if doubled else ""
        _console().print(
            f"left over: {rows:,} rows of photos or pairs that are gone, or as they were before ({what or 'files alone'}){twice}. "
            f"Nobody reads them; sc3d clean {shlex.quote(config.run)} lists them"
        )


def print_found(found: Sequence[Leftover], removed: int, deleted: bool) -> None:
    """Print what ``sc3d clean`` has found or removed."""
    console = _console()
    if not found:
        console.print("Nothing is left over: all that lies in the folder counts.")
        return
    for one in found:
        kind = "of other configurations" if one.other else f"{one.rows:,} rows do not count"
        console.print(f"{one.stage:<12} {one.prefix:<32} {kind}, {len(one.files) + len(one.mixed):,} files")
    if deleted:
        console.print(f"{removed:,} files were removed, or written again without what does not count")
        return
    console.print("Nothing was removed. --delete removes the files; --other-configurations those of other configurations too")


def _console() -> PlainConsole:
    return PlainConsole(soft_wrap=True)
