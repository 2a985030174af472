"""The border of the data sets: their files come from anybody. What passes here has a size, a depth, and the types that its schema names.

A schema is a type that pydantic knows. JSON is parsed by its own parser, which goes 200 levels deep and no further, and whatever does not
fit is an error with the file and the field.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from sc3d.errors import InputError
from sc3d.local_files import read_local
from sc3d.misfits import first_misfit

SchemaT = TypeVar("SchemaT")

STRICT = ConfigDict(strict=True, frozen=True)
"""Of schemas: a text is no number, and truth is none either. Fields that they do not name are passed over."""

MAX_IMAGE_ANNOTATION = 1 << 20
"""Bytes of a file about one image at most; those of the public data sets have some thousands."""

MAX_LIST = 1 << 28
"""Bytes of a file about a whole data set at most; those of AP-10K have 13 million."""

MAX_KEYPOINTS = 10_000
MAX_COORDINATE = 1e7
"""Pixels from 0, in either direction; float32 holds them without a loss that matters."""

Coordinate = Annotated[float, Field(ge=-MAX_COORDINATE, le=MAX_COORDINATE, allow_inf_nan=False)]

KeypointId = Annotated[int, Field(ge=0, lt=1 << 31)]

ImageNumber = Annotated[int, Field(ge=0, lt=1 << 53)]

Text = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""A name without control characters."""


def read_text(path: Path, what: str = "a text", max_bytes: int = MAX_LIST) -> str:
    """A text (``what``, for messages) in UTF-8, with or without a byte order mark.

    Raises:
        InputError: missing, unreadable, no regular file, too large, or another encoding.
    """
    try:
        return read_local(path, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as {what} ({error}); copy it again") from None


def read_lines_of_csv(path: Path) -> list[tuple[list[str], str]]:
    """The fields of each line of a CSV file that is not empty, and where it stands.

    Raises:
        InputError: it cannot be read, is none, or is empty.
    """
    try:
        reader = csv.reader(io.StringIO(read_text(path, "CSV"), newline=""))
        lines = [([field.strip() for field in line], f"{path}, line {reader.line_num}") for line in reader if any(line)]
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read as CSV ({error}); copy it again") from None
    if not lines:
        raise InputError(f"{path}: is empty; copy it again")
    return lines


def read_annotation(path: Path, schema: TypeAdapter[SchemaT], what: str, max_bytes: int = MAX_IMAGE_ANNOTATION) -> SchemaT:
    """What a JSON file holds, checked.

    Args:
        path: the file; a byte order mark is passed over.
        schema: what it must hold.
        what: what it is then, for messages, such as "an image annotation of SPair-71k".
        max_bytes: its size at most.

    Raises:
        InputError: missing, unreadable, too large, not JSON, or of another schema: the message says which field.
    """
    if not os.path.lexists(path):
        raise InputError(f"{path}: no such file; the data set is incomplete, copy it again")
    data = read_local(path, max_bytes).removeprefix(b"\xef\xbb\xbf")
    try:
        return schema.validate_json(data)
    except ValidationError as error:
        if error.errors(include_url=False, include_context=False, include_input=False)[0]["type"] == "json_invalid":
            raise InputError(f"{path}: cannot be read as JSON ({first_misfit(error)}); copy it again") from None
        raise InputError(f"{path}: not {what} ({first_misfit(error)})") from None
