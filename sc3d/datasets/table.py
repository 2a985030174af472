"""A table of photos as a dataset: a CSV or Parquet file, here or in a bucket, that says where each photo lies and what it shows.

Nothing but the table is opened here: a photo that cannot be had becomes a reject row of the first stage that needs it.
"""

from __future__ import annotations

import csv
import io
import os
import posixpath
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sc3d.addresses import check_address
from sc3d.config import DatasetConfig, DownloadConfig
from sc3d.datasets.annotation_files import MAX_COORDINATE
from sc3d.datasets.content import AnnotatedSet
from sc3d.datasets.dataset import Dataset
from sc3d.datasets.folder import image_id_of
from sc3d.display import scheme_of, shown
from sc3d.errors import ConfigError, InputError, SchemaError
from sc3d.local_files import open_local
from sc3d.records import SPLITS, ImageRecord, as_category
from sc3d.remote_images import read_object

COLUMNS = ("path", "category", "image_id", "split", "bbox", "mask_path")
"""What a table can hold; ``path`` and ``category`` it must hold."""

_PHOTO_SCHEMES = ("", "s3", "http", "https")
_SHOWN_PROBLEMS = 5
_ROWS_A_BATCH = 16_384
_CHARACTERS_A_ROW = 1 << 20
_PARQUET = b"PAR1"

_Row = tuple[int, Sequence[Any]]


def read_table(
    where: str,
    category: str | None = None,
    categories: Collection[str] = (),
    buckets: Sequence[str] = DownloadConfig().buckets,
) -> list[ImageRecord]:
    """List the photos of a table, in its order.

    Columns: ``path``: where the photo is, relative to the table's folder, absolute, ``s3://bucket/key``, or ``http(s)://``; ``category``;
    ``image_id``; ``split``: trn, val or test; ``bbox``: x1 y1 x2 y2 in pixels of the upright photo, as text or as a list of four numbers;
    ``mask_path``: as ``path``. All but the first two may be missing, as a column or in a row. Others are ignored.

    Args:
        where: local path or ``s3://`` address of a CSV file (UTF-8, commas, a header line) or Parquet file.
        category: category of all photos of a table that has no such column.
        categories: only these categories; none: all.
        buckets: ``dataset.download.buckets``.

    Returns:
        Records with absolute paths or addresses. An ``image_id`` that is not given is the stem as plain ASCII and a hash of the path as it
        stands in the table, so for photos below the table's folder it is that of :func:`~sc3d.datasets.folder.read_folder`.

    Raises:
        InputError: no such table, not one, empty, without a column that is needed, or with bad rows: the first five, with their lines.
        StoreError: the store of the bucket is away, or does not accept the credentials.
    """
    name = shown(where)
    stream, home = _opened(where, buckets)
    with stream:
        is_parquet = stream.read(len(_PARQUET)) == _PARQUET
        stream.seek(0)
        reader = _ParquetRows(stream, name) if is_parquet else _CsvRows(stream, name)
        _check_columns(reader.columns, category, name)
        rows = _Rows(home, reader.unit, category)
        images = list(rows.images(reader.rows(), frozenset(categories)))
    if rows.problems:
        raise InputError(f"{name}: " + "; ".join(rows.problems))
    if not rows.count:
        raise InputError(f"{name}: lists no photos; give it a row a photo")
    return images


def _opened(where: str, buckets: Sequence[str]) -> tuple[BinaryIO, str]:
    """The table, and its absolute path or address."""
    scheme = scheme_of(where)
    if scheme == "s3":
        return io.BytesIO(read_object(where, buckets)), where
    if scheme:
        raise InputError(f"{shown(where)}: a table is read from a disk or from s3://; copy it there")
    path = os.path.abspath(where)
    if os.path.isdir(path):
        raise InputError(f"{path}: is a folder; name the table in it, or read the folder with --kind folder")
    return open_local(path), path


def _check_columns(columns: Sequence[str], category: str | None, name: str) -> None:
    wanted = ("path",) if category is not None else ("path", "category")
    missing = [column for column in wanted if column not in columns]
    if missing:
        advice = (
            "separate columns by commas"
            if len(columns) == 1 and any(c in columns[0] for c in ";\t")
            else "the first line names them"
        )
        have = ", ".join(columns[:12]) or "none"
        raise InputError(f"{name}: there is no column {' and no column '.join(missing)}; it has {have}; {advice}")
    double = sorted({column for column in columns if column in COLUMNS and columns.count(column) > 1})
    if double:
        raise InputError(f"{name}: has two columns {double[0]}; remove one")
    if category is not None and "category" in columns:
        raise InputError(f"{name}: has a column category, so leave --category out, or remove the column")


class _CsvRows:
    """The rows of a CSV file with the lines that they end in."""

    unit = "line"

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._name = name
        self._text = _RowsOfText(stream)
        self._reader = csv.reader(self._text, strict=True)
        self.columns = [column.strip() for column in next(self._lines(), (0, ()))[1]]
        if not self.columns:
            raise InputError(f"{name}: the table is empty; its first line must name the columns: {', '.join(COLUMNS)}")

    def rows(self) -> Iterator[_Row]:
        wanted = [self.columns.index(column) if column in self.columns else None for column in COLUMNS]
        width = len(self.columns)
        for line, row in self._lines():
            if len(row) != width:
                raise InputError(
                    f"{self._name}: line {line} has {len(row)} fields, the first line has {width}; put quotes around fields with commas"
                )
            yield line, [row[i] if i is not None else None for i in wanted]

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        try:
            for row in self._reader:
                self._text.left = _CHARACTERS_A_ROW
                if row:
                    yield self._reader.line_num, row
        except UnicodeDecodeError:
            raise InputError(f"{self._name}: is not a CSV file in UTF-8, nor a Parquet file; save it as one of them") from None
        except csv.Error as error:
            raise InputError(f"{self._name}: line {self._reader.line_num} cannot be read ({error}); correct it") from None


class _RowsOfText:
    """The lines of a text, of which a row takes one or more. ``left``: how many characters the present row may still have; without an end
    to it, a file without line ends would be read into memory whole."""

    def __init__(self, stream: BinaryIO) -> None:
        self.left = _CHARACTERS_A_ROW
        self._text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")

    def __iter__(self) -> _RowsOfText:
        return self

    def __next__(self) -> str:
        line = self._text.readline(self.left + 1)
        self.left -= len(line)
        if self.left < 0:
            raise csv.Error(f"a row of more than {_CHARACTERS_A_ROW:,} characters")
        if not line:
            raise StopIteration
        return line


class _ParquetRows:
    """The rows of a Parquet file with their numbers, from 1."""

    unit = "row"

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._name = name
        try:
            self._file = pq.ParquetFile(stream)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(f"{name}: is a damaged Parquet file ({error}); write it again") from None
        self.columns = list(self._file.schema_arrow.names)

    def rows(self) -> Iterator[_Row]:
        present = [column for column in COLUMNS if column in self.columns]
        number = 0
        try:
            for batch in self._file.iter_batches(_ROWS_A_BATCH, columns=present):
                # Offsets in range, and texts in UTF-8.
                batch.validate(full=True)
                read = {column: batch.column(column).to_pylist() for column in present}
                nothing = [None] * batch.num_rows
                for row in zip(*(read.get(column, nothing) for column in COLUMNS), strict=True):
                    number += 1
                    yield number, row
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(f"{self._name}: is a damaged Parquet file ({error}); write it again") from None


class _Rows:
    """From rows to records. ``problems``: what is wrong with the first bad rows; ``count``: rows that were read."""

    def __init__(self, home: str, unit: str, category: str | None) -> None:
        self.problems: list[str] = []
        self.count = 0
        self._unit, self._category = unit, category
        self._in_bucket = scheme_of(home) == "s3"
        self._folder = posixpath.dirname(home).rstrip("/")
        self._lines: dict[str, int] = {}

    def images(self, rows: Iterable[_Row], categories: frozenset[str]) -> Iterator[ImageRecord]:
        """The images of rows. Ends early where there are many bad rows."""
        for line, row in rows:
            self.count += 1
            try:
                image = self._image(line, row)
            except (InputError, SchemaError) as error:
                self.problems.append(f"{self._unit} {line}: {error}")
                if len(self.problems) == _SHOWN_PROBLEMS:
                    self.problems.append("and there may be more")
                    return
                continue
            if not self.problems and (not categories or image.category in categories):
                yield image

    def _image(self, line: int, row: Sequence[Any]) -> ImageRecord:
        path, category, image_id, split, bbox, mask_path = row
        path, mask = _text(path, "path"), _text(mask_path, "mask_path")
        if not path:
            raise InputError("path is empty")
        place, location = self._located(path)
        image = ImageRecord(
            image_id=_text(image_id, "image_id") or image_id_of(place, shown(path)),
            path=location,
            category=as_category(self._category if self._category is not None else _text(category, "category")),
            split=_split_of(_text(split, "split")),
            bbox=_box(bbox),
            mask_path=self._located(mask)[1] if mask else None,
        )
        first = self._lines.setdefault(image.image_id, line)
        if first != line:
            raise InputError(
                f"has the id '{image.image_id}' of {self._unit} {first}; list each photo once, or give it another image_id"
            )
        return image

    def _located(self, path: str) -> tuple[str, str]:
        """A path as it stands in the table without detours, and the absolute path or address that it means."""
        scheme = scheme_of(path)
        if scheme not in _PHOTO_SCHEMES:
            raise InputError(f"{shown(path)}: '{scheme}://' cannot be read; give a path, s3://bucket/key or https://...")
        if "\x00" in path:
            raise InputError("a path holds a zero character; correct it")
        if scheme:
            check_address(path)
            return path, path
        if path.startswith("/"):
            return path, path
        inside = posixpath.normpath(path)
        if inside == ".." or inside.startswith("../"):
            raise InputError(f"{shown(path)}: leaves the table's folder; move the table up, or give the whole path")
        if not self._in_bucket:
            return inside, f"{self._folder}/{inside}"
        return inside, f"{self._folder}/{quote(inside)}"


def _text(value: Any, column: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"{column} is not a text but a {type(value).__name__}")
    return value.strip()


def _split_of(split: str) -> str:
    if split and split not in SPLITS:
        raise InputError(f"split '{split}' is not one of {', '.join(SPLITS)}")
    return split or SPLITS[0]


def _box(value: Any) -> np.ndarray | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        numbers = [float(v) for v in (value.split() if isinstance(value, str) else value)]
    except (TypeError, ValueError):
        numbers = []
    box = np.array(numbers if all(abs(n) <= MAX_COORDINATE for n in numbers) else [], np.float32)
    if len(box) != 4 or box[0] >= box[2] or box[1] >= box[3]:
        raise InputError(f"bbox '{str(value)[:80]}' is not a box; it is x1 y1 x2 y2 in pixels, x1 < x2 and y1 < y2")
    return box


def _read(root: Path, dataset: DatasetConfig, subset: str, paired: Collection[str]) -> AnnotatedSet:
    if dataset.masks:
        raise ConfigError("a table names the masks itself: leave --masks out, and give it a column mask_path")
    # The root as it was given: a path would shorten the two slashes of s3://.
    return AnnotatedSet(read_table(dataset.root, dataset.category, dataset.categories, dataset.download.buckets), [])


TABLE = Dataset(_read)
