"""DIY-SC's annotation files: ``<split>/<category>_anns.pt``, a pickled list with one dictionary of plain Python values an image pair.

Their keypoints are pixels of the padded 840 x 840 frame that sc3d's working grid lies in: the top-left corner of the cell, 14 times its
column and row, so at most 826. sc3d's are pixels of the original image at the cell's centre. Both name the same cell, so labels go there
and back exactly. Measured with the loader of github.com/odunkel/DIY-SC: it reads the two file names, the two keypoint lists and ``flip``;
an annotation without keypoints stops it, and so does a category without a file; an empty list does not.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from sc3d.errors import InputError
from sc3d.grid import CELL_SIZE, SIDE, Letterbox
from sc3d.pair_ids import pair_id_of
from sc3d.records import Labels

FRAME = SIDE * CELL_SIZE
SUFFIX = "_anns.pt"

LAYOUT = f"""`<split>/<category>{SUFFIX}`: annotation files for DIY-SC, whose option `TRAIN_DATASET_ANN_DIR` names this folder.
Each is a list of dictionaries: `src_imname`, `trg_imname`, `src_imsize`, `tgt_imsize` (width, height), `num_kps`, `source_kps` and
`target_kps` ([x, y] of the cell's top-left corner in the padded frame of `img_size_kps` = {FRAME} pixels a side), of plain types:

```python
import torch

annotations = torch.load("trn/car{SUFFIX}", weights_only=True)
```"""

_UNKNOWN = float("nan")


@dataclass(frozen=True, eq=False)
class Annotation:
    """A matched pair of such a file.

    ``source_name``, ``target_name``: image file names. ``source_cells``, ``target_cells`` (N,) int64 flat cells of the working grid.
    ``source_size``, ``target_size``: width and height of the images, where the file says so. ``mirrored``: the target's keypoints are
    those of the mirrored image.
    """

    source_name: str
    target_name: str
    source_cells: np.ndarray
    target_cells: np.ndarray
    source_size: tuple[int, int] | None = None
    target_size: tuple[int, int] | None = None
    mirrored: bool = False


def annotation_of(labels: Labels, names: tuple[str, str], sizes: tuple[tuple[int, int], tuple[int, int]]) -> Annotation:
    """The labels of a pair as an annotation; ``names`` and ``sizes`` (width, height) are those of source and target."""
    return Annotation(
        *names,
        Letterbox(*sizes[0]).cells_of(labels.source_xy),
        Letterbox(*sizes[1]).cells_of(labels.target_xy),
        *sizes,
    )


def labels_of(
    annotations: Iterable[Annotation], ids: tuple[str, str], sizes: tuple[tuple[int, int], tuple[int, int]], category: str
) -> Labels:
    """One label row of all annotations of a pair; a match that occurs in several is taken once.

    Such a file has no evidence, so errors, cosine, extent and thresholds are NaN, and the counts those of the labels.
    """
    rows = [np.stack([a.source_cells, a.target_cells], axis=1) for a in annotations]
    cells = np.unique(np.concatenate(rows), axis=0)
    source, target = Letterbox(*sizes[0]), Letterbox(*sizes[1])
    n = len(cells)
    unknown = np.full(n, _UNKNOWN, np.float32)
    return Labels(
        pair_id=pair_id_of(*ids),
        source_id=ids[0],
        target_id=ids[1],
        category=category,
        source_xy=source.centres(cells[:, 0]),
        target_xy=target.centres(cells[:, 1]),
        cosine=unknown,
        cycle_error=unknown,
        geodesic_error=unknown,
        source_extent=_UNKNOWN,
        source_cell=source.cell_pixels,
        n_candidates=n,
        n_cycle=n,
        n_kept=n,
        tau_cc=_UNKNOWN,
        tau_geo=_UNKNOWN,
    )


class AnnotationWriter:
    """Writes the list that ``torch.save`` would, one annotation after the other, so that memory does not grow with their number.

    Use as a context manager on an open binary file. ``count``: annotations so far.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.count = 0
        self._archive = zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED)
        self._data = self._archive.open("archive/data.pkl", "w", force_zip64=True)
        self._data.write(pickle.PROTO + b"\x02" + pickle.EMPTY_LIST)

    def __enter__(self) -> AnnotationWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._data.write(pickle.STOP)
        self._data.close()
        # As entries without a time: the same labels make the same bytes.
        self._archive.writestr(zipfile.ZipInfo("archive/byteorder"), b"little")
        self._archive.writestr(zipfile.ZipInfo("archive/version"), b"3\n")
        self._archive.close()

    def add(self, annotation: Annotation) -> None:
        """Append an annotation."""
        # Each is a pickle of its own between the list's brackets; memo numbers that start again are overwritten by the reader.
        item = pickle.dumps(_as_plain(annotation), protocol=2)
        self._data.write(item[2 : -len(pickle.STOP)] + pickle.APPEND)
        self.count += 1


def _as_plain(annotation: Annotation) -> dict[str, Any]:
    return {
        "src_imname": annotation.source_name,
        "trg_imname": annotation.target_name,
        "src_imsize": annotation.source_size,
        "tgt_imsize": annotation.target_size,
        "num_kps": len(annotation.source_cells),
        "source_kps": _corners(annotation.source_cells),
        "target_kps": _corners(annotation.target_cells),
        "img_size_kps": FRAME,
    }


def _corners(cells: np.ndarray) -> list[list[float]]:
    corners: list[list[float]] = (np.stack([cells % SIDE, cells // SIDE], axis=1) * float(CELL_SIZE)).tolist()
    return corners


def read_annotations(data: bytes, where: str) -> Iterator[Annotation]:
    """The annotations of a file's content, checked one by one. Nothing but plain values and tensors is unpickled.

    Args:
        data: the file.
        where: its name, for messages.

    Raises:
        InputError: cut short, holds other types, or an annotation is malformed: the message says which and why.
    """
    import torch

    try:
        items = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or foreign pickle raises whatever the reader stumbled over
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{where}: cannot be read as an annotation file; is it cut short, or of another kind? ({reason})"
        ) from None
    if not isinstance(items, list):
        raise InputError(f"{where}: holds a {type(items).__name__}; an annotation file holds a list of dictionaries")
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            raise InputError(f"{where}: annotation {number} is a {type(item).__name__}, not a dictionary")
        yield _parse(item, f"{where}: annotation {number}")


def _parse(item: dict[Any, Any], where: str) -> Annotation:
    names = [item.get(key) for key in ("src_imname", "trg_imname")]
    if not all(isinstance(name, str) and name for name in names):
        raise InputError(f"{where}: src_imname and trg_imname must be file names, got {names[0]!r} and {names[1]!r}")
    where = f"{where} ({names[0]}, {names[1]})"
    if item.get("img_size_kps", FRAME) != FRAME:
        raise InputError(f"{where}: keypoints of a frame of {item['img_size_kps']!r} pixels; only {FRAME} can be read")
    source, target = (_cells(item.get(key), f"{where}: {key}") for key in ("source_kps", "target_kps"))
    if len(source) != len(target) or item.get("num_kps", len(source)) != len(source):
        stated = f", and num_kps is {item['num_kps']!r}" if "num_kps" in item else ""
        raise InputError(f"{where}: {len(source)} source and {len(target)} target keypoints{stated}; they must be as many")
    sizes = [_size(item.get(key), f"{where}: {key}") for key in ("src_imsize", "tgt_imsize")]
    return Annotation(str(names[0]), str(names[1]), source, target, sizes[0], sizes[1], bool(item.get("flip", False)))


def _cells(value: object, where: str) -> np.ndarray:
    try:
        xy = np.asarray(value)
    except Exception:  # numpy raises several types for nested lists that form no array
        xy = np.asarray(None)
    if xy.size == 0 and isinstance(value, list):
        return np.zeros(0, np.int64)
    if xy.dtype.kind not in "iuf" or xy.ndim != 2 or xy.shape[1] != 2:
        raise InputError(f"{where} must be a list of [x, y]")
    if not bool(np.all((xy >= 0) & (xy < FRAME))):
        worst = xy[~((xy >= 0) & (xy < FRAME)).all(axis=1)][0].tolist()
        raise InputError(f"{where} holds {worst}, which is outside the frame [0, {FRAME})")
    column_row = (xy / CELL_SIZE).astype(np.int64)
    return np.asarray(column_row[:, 1] * SIDE + column_row[:, 0])


def _size(value: object, where: str) -> tuple[int, int] | None:
    if value is None:
        return None
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(type(n) is int and n > 0 for n in value):
        return value[0], value[1]
    raise InputError(f"{where} must be width and height in pixels, got {value!r}")
