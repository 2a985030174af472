"""Labelled pairs as PyTorch's data loaders read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import Dataset

_TEXTS = ("source_id", "target_id", "category")
_POINTS = ("source_xy", "target_xy")
_VALUES = ("cosine", "cycle_error", "geodesic_error")


class LabelledPairs(Dataset[dict[str, Any]]):
    """A pair an item, see :meth:`sc3d.label_reader.LabelReader.torch`; its table travels to the workers of a loader whole.

    Args:
        pairs: as :meth:`~sc3d.label_reader.LabelReader.pairs` returns them.
        paths: image id -> where the photo is.
    """

    def __init__(self, pairs: pa.Table, paths: Mapping[str, str]) -> None:
        self._pairs, self._paths = pairs.select([*_TEXTS, *_POINTS, *_VALUES]).combine_chunks(), paths

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        row = self._pairs.slice(index % len(self), 1)
        item: dict[str, Any] = {name: row[name][0].as_py() for name in _TEXTS}
        item |= {f"{end}_path": self._paths[item[f"{end}_id"]] for end in ("source", "target")}
        for name in _VALUES:
            item[name] = torch.from_numpy(np.array(row[name][0].values, np.float32))
        for name in _POINTS:
            item[name] = torch.from_numpy(np.array(row[name][0].values.flatten(), np.float32).reshape(-1, 2))
        return item
