"""Where Ray Tune keeps the state of a batch that runs: in a private folder of this machine, since that state is pickled.

The run folder only names it. Whoever can write there can have a batch begin anew, and cannot have anything unpickled. On another machine,
and where temporary files were cleaned, a batch that was cut short begins anew.
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from cluster.folders import parent_folder
from sc3d.parsed import read_parsed
from sc3d.store import RunFolder


class _Begun(TypedDict):
    # It becomes a part of a path.
    id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


def tune_state(run: RunFolder, batch_folder: str) -> Path:
    """The folder of a batch, made if it is not there, closed to everybody else.

    Raises:
        SchemaError: the note in the run folder is not what a batch writes.
        PermissionError: somebody else has put something where it would be.
    """
    note = f"{batch_folder}/begun.json"
    if not run.exists(note):
        run.write_json(note, {"id": uuid.uuid4().hex})
    folder = parent_folder() / "searches" / read_parsed(run, note, _Begun)["id"]
    folder.mkdir(0o700, parents=True, exist_ok=True)
    return folder


def forget_tune_state(run: RunFolder, batch_folder: str) -> None:
    """Delete the state of a batch that is finished."""
    shutil.rmtree(tune_state(run, batch_folder), ignore_errors=True)
