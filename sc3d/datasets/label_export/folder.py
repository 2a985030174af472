"""The folder that an export writes: claimed first, filled file by file, and gone on with where it was cut short.

``export.json`` in it says whose folder it is and how far it got. It is written after the files that it counts, so a killed export writes
at most its last files again, under the same names.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
import pyarrow.fs as pafs
from pydantic import AfterValidator
from typing_extensions import TypedDict

from sc3d.datasets.label_export.counts import HISTOGRAM, LabelCounts
from sc3d.errors import SchemaError, StoreError
from sc3d.parsed import TABLE_BYTES, Whole, read_parsed
from sc3d.store import RunFolder
from sc3d.store_disk import TEMPORARY
from sc3d.store_errors import explain
from sc3d.store_retry import patiently

JOURNAL = "export.json"
README = "README.md"

Counts = Mapping[str, Mapping[str, LabelCounts]]
"""Category -> split -> counts."""


def _bits_fit(journal: Journal) -> Journal:
    if len(journal["seen"]) != -(-journal["images"] // 8):
        raise ValueError(f"{len(journal['seen'])} bytes do not say which of {journal['images']} images were seen")
    if any(len(part.histogram) != len(HISTOGRAM) for parts in journal["counts"].values() for part in parts.values()):
        raise ValueError(f"a histogram has {len(HISTOGRAM)} bins")
    return journal


class JournalFields(TypedDict):
    """``export.json``."""

    key: str
    images: Whole
    seen: Annotated[str, AfterValidator(base64.b64decode)]
    position: Whole
    steps: Whole
    left_out: Whole
    counts: dict[str, dict[str, LabelCounts]]
    complete: bool


Journal = Annotated[JournalFields, AfterValidator(_bits_fit)]


@dataclass(frozen=True, eq=False)
class ExportState:
    """How far an export got.

    ``key``: what is exported, and how. ``position``: label files done. ``steps``: steps done. ``left_out``: pairs with too few labels.
    ``seen`` (images,) bool: images of the manifest that occur in an exported pair. ``complete``: the card was written as well.
    """

    key: str
    seen: np.ndarray
    position: int = 0
    steps: int = 0
    left_out: int = 0
    counts: Counts = field(default_factory=dict)
    complete: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("seen", "counts")}
        counts = {c: {s: dataclasses.asdict(part) for s, part in parts.items()} for c, parts in self.counts.items()}
        seen = base64.b64encode(np.packbits(self.seen).tobytes()).decode()
        return {**values, "counts": counts, "images": len(self.seen), "seen": seen}

    @classmethod
    def from_json(cls, values: Journal) -> ExportState:
        """What :meth:`to_json` made."""
        packed = np.frombuffer(values["seen"], np.uint8)  # type: ignore[call-overload]
        return cls(
            values["key"],
            np.unpackbits(packed, count=values["images"]).astype(bool),
            values["position"],
            values["steps"],
            values["left_out"],
            values["counts"],
            values["complete"],
        )


class ExportFolder:
    """Where an export goes: a local folder or ``s3://bucket/prefix``."""

    def __init__(self, uri: str) -> None:
        self.files = RunFolder(uri)
        self._root = os.path.dirname(self.files.path(JOURNAL))
        self._filesystem = self.files.arrow()

    def claim(self, fresh: ExportState, owns: Callable[[str], bool], overwrite: bool) -> ExportState:
        """Take the folder for an export, or go on with the same one; returns how far that got.

        Args:
            fresh: the state of an export that has just begun.
            owns: whether a file of that name may come from an earlier export: these are deleted when it is replaced.
            overwrite: replace another export, but never a folder that holds anything else.

        Raises:
            StoreError: the folder holds another export, or something else.
        """
        if self.files.exists(JOURNAL):
            found = self._read()
            self._sweep()
            if found is not None and found.key == fresh.key:
                return found
            if not overwrite:
                raise StoreError(
                    f"{self.files.uri} holds an export of other labels, or with other options; choose another folder, or replace it with "
                    "--overwrite"
                )
            self._delete(owns)
        elif self._entries():
            raise StoreError(
                f"{self.files.uri} is not empty and holds no export of sc3d; choose another folder: nothing in it was touched"
            )
        self.save(fresh)
        return fresh

    def save(self, state: ExportState) -> None:
        """Note how far the export got."""
        self.files.write_json(JOURNAL, state.to_json())

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A file to write piece by piece, which is there under its name, whole, when the block ends without an error.

        Raises:
            StoreError: it cannot be written.
        """
        path = self.files.path(name)
        scratch = ""
        try:
            if self.files.is_local:
                os.makedirs(self._root, exist_ok=True)
            handle, scratch = tempfile.mkstemp(prefix=TEMPORARY, dir=self._root if self.files.is_local else None)
            with os.fdopen(handle, "w+b") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            if self.files.is_local:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                os.chmod(scratch, 0o644)
                os.replace(scratch, path)
            else:
                self._upload(scratch, path)
        except OSError as error:
            raise explain(error, "write", path) from None
        finally:
            if scratch:
                Path(scratch).unlink(missing_ok=True)

    def _upload(self, scratch: str, path: str) -> None:
        # Piece by piece, which a run folder's own writing is not: a category of a large run may be gigabytes.
        def copy() -> None:
            pafs.copy_files(scratch, path, source_filesystem=pafs.LocalFileSystem(), destination_filesystem=self._filesystem)

        patiently(copy, self.files.uri, "write", path)

    def _read(self) -> ExportState | None:
        """``None`` for what another version wrote, or somebody changed."""
        try:
            return ExportState.from_json(read_parsed(self.files, JOURNAL, Journal, TABLE_BYTES))
        except SchemaError:
            return None

    def _entries(self, recursive: bool = False) -> list[str]:
        """Names of what is in the folder, relative to it."""
        selector = pafs.FileSelector(self._root, recursive=recursive, allow_not_found=True)
        found = patiently(lambda: self._filesystem.get_file_info(selector), self.files.uri, "list", self._root)
        return [info.path[len(self._root) + 1 :] for info in found]

    def _sweep(self) -> None:
        # What a killed export was writing, which may be large.
        for name in self._entries() if self.files.is_local else ():
            if name.startswith(TEMPORARY):
                Path(self._root, name).unlink(missing_ok=True)

    def _delete(self, owns: Callable[[str], bool]) -> None:
        # The journal goes last: until then the folder is known to be ours.
        for name in sorted(filter(owns, self._entries(recursive=True)), key=lambda name: name == JOURNAL):
            self.files.delete(name)
