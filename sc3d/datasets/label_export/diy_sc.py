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
from typing import Any, BinaryIO, TypeGuard

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

MAX_FILE_BYTES = 1 << 31

MAX_KEYPOINTS = 100_000
"""Of an annotation, at most; DIY-SC has 50."""

_LONGEST_NAME = 1000
_LONGEST_SIDE = 1_000_000
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

    A few bytes of such a file can stand for any number of values: packed parts, tensors that repeat one row, lists that name one part many
    times. So parts must be stored as they are, and there cannot be more keypoints than the file has bytes.

    Args:
        data: the file.
        where: its name, for messages.

    Raises:
        InputError: cut short, holds other types or more than it has bytes for, or an annotation is malformed: the message says which
            and why.
    """
    import torch

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > len(data):
                raise ValueError("its parts are packed, or stated larger than the file")
        items = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or foreign pickle raises whatever the reader stumbled over
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{where}: cannot be read as an annotation file; is it cut short, or of another kind? ({reason})"
        ) from None
    if not isinstance(items, list):
        raise InputError(f"{where}: holds a {type(items).__name__}; an annotation file holds a list of dictionaries")
    n_keypoints = 0
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            raise InputError(f"{where}: annotation {number} is a {type(item).__name__}, not a dictionary")
        annotation = _parse(item, f"{where}: annotation {number}")
        n_keypoints += 2 * len(annotation.source_cells)
        if n_keypoints > len(data):
            raise InputError(f"{where}: annotation {number}: more keypoints than the file of {len(data):,} bytes can hold")
        yield annotation


def _parse(item: dict[Any, Any], where: str) -> Annotation:
    names = [_file_name(item.get(key), f"{where}: {key}") for key in ("src_imname", "trg_imname")]
    where = f"{where} ({names[0]}, {names[1]})"
    frame = item.get("img_size_kps", FRAME)
    if not _is_number(frame) or frame != FRAME:
        raise InputError(f"{where}: keypoints of a frame of {_shown(frame)} pixels; only {FRAME} can be read")
    source, target = (_cells(item.get(key), f"{where}: {key}") for key in ("source_kps", "target_kps"))
    stated = item.get("num_kps", len(source))
    if len(source) != len(target) or not _is_number(stated) or stated != len(source):
        also = f", and num_kps is {_shown(stated)}" if "num_kps" in item else ""
        raise InputError(f"{where}: {len(source)} source and {len(target)} target keypoints{also}; they must be as many")
    sizes = [_size(item.get(key), f"{where}: {key}") for key in ("src_imsize", "tgt_imsize")]
    mirrored = item.get("flip", False)
    if type(mirrored) not in (bool, int) or mirrored not in (0, 1):
        raise InputError(f"{where}: flip must be True or False, got {_shown(mirrored)}")
    return Annotation(names[0], names[1], source, target, sizes[0], sizes[1], bool(mirrored))


def _file_name(value: object, where: str) -> str:
    if type(value) is not str or not 0 < len(value) <= _LONGEST_NAME or not value.isprintable():
        raise InputError(f"{where}: src_imname and trg_imname must be file names, got {_shown(value)}")
    return value


def _is_number(value: object) -> TypeGuard[int | float]:
    return type(value) in (int, float)


def _shown(value: object) -> str:
    """A value for a message: of a tensor or a list, which may be larger than memory, its type alone."""
    return ascii(value)[:_LONGEST_NAME] if value is None or type(value) in (bool, int, float, str) else f"a {type(value).__name__}"


def _cells(value: object, where: str) -> np.ndarray:
    xy = _points(value)
    if xy is None:
        raise InputError(f"{where} must be a list of [x, y], at most {MAX_KEYPOINTS}")
    inside = ((xy >= 0) & (xy < FRAME)).all(axis=1)
    if not inside.all():
        raise InputError(f"{where} holds {xy[~inside][0].tolist()}, which is outside the frame [0, {FRAME})")
    column_row = (xy / CELL_SIZE).astype(np.int64)
    return np.asarray(column_row[:, 1] * SIDE + column_row[:, 0])


def _points(value: object) -> np.ndarray | None:
    """Keypoints (K, 2) float64; ``None`` where a value is no list of them, or no tensor that holds them itself."""
    import torch

    if type(value) is torch.Tensor:
        # Only then does its size say how much memory its values take.
        if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu" or value.is_complex():
            return None
        if value.dtype == torch.bool or value.ndim != 2 or value.shape[1] != 2 or len(value) > MAX_KEYPOINTS:
            return None
        return value.detach().to(torch.float64).numpy()
    if type(value) is not list or len(value) > MAX_KEYPOINTS:
        return None
    if not all(
        type(point) in (list, tuple) and len(point) == 2 and _is_number(point[0]) and _is_number(point[1]) for point in value
    ):
        return None
    try:
        return np.array(value, np.float64).reshape(-1, 2)
    except OverflowError:
        return None


def _size(value: object, where: str) -> tuple[int, int] | None:
    if value is None:
        return None
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(type(n) is int and 0 < n <= _LONGEST_SIDE for n in value):
        return value[0], value[1]
    raise InputError(f"{where} must be width and height in pixels, got {_shown(value)}")
