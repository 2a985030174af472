"""The labels of a run for other programs, as Arrow tables, which pandas, DuckDB and Hugging Face ``datasets`` take, and for PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import NotRequired, TypedDict

from sc3d.counted_labels import FOLDER, counted_labels, label_artefacts
from sc3d.datasets.label_export.huggingface import pair_table
from sc3d.errors import ConfigError, InputError
from sc3d.manifests import IMAGES
from sc3d.parsed import Recipe, read_parsed
from sc3d.records import ImageRecord, Labels
from sc3d.schema import arrow_schema
from sc3d.store import RunFolder

if TYPE_CHECKING:
    from torch.utils.data import Dataset

_TIMING = "timings/label.json"
_EVIDENCE = ("cosine", "cycle_error", "geodesic_error")
_ENDS = ("source", "target")


class _Finished(TypedDict):
    """What is read of ``timings/label.json``; runs of earlier versions did not name the recipe."""

    recipe: NotRequired[Recipe]


def labels(run: str | Path | RunFolder, recipe: str | None = None, category: str | None = None) -> LabelReader:
    """The labels of a run folder that count: those of the pairs that its plan names, made from the photos as they are now.

    Args:
        run: a local path, ``s3://bucket/prefix``, or what a job returned.
        recipe: which labels, a folder below ``labels/``; by default those that were made last.
        category: of these images alone.

    Raises:
        InputError: there are no labels; or there are several recipes and nobody knows which was made last: the message names them.
        ConfigError: ``recipe`` is no recipe.
        SchemaError: the folder was written by another version of sc3d, or is damaged.
        StoreError: it cannot be read.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    return LabelReader(folder, last_recipe(folder) if recipe is None else recipe, category)


def last_recipe(run: RunFolder) -> str:
    """The recipe of the labels that were made last. Raises as :func:`labels`."""
    named = read_parsed(run, _TIMING, _Finished).get("recipe") if run.exists(_TIMING) else None
    if named:
        return named
    found = sorted({name.split("/")[1] for name in run.names(FOLDER, ".parquet")})
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(f"{run.uri} holds no labels; is it the folder of a run? sc3d label makes them")
    raise InputError(f"{run.uri} holds labels of {len(found)} recipes; name one of them: {', '.join(found)}")


class LabelReader:
    """The labels of one recipe; see :func:`labels`.

    Attributes:
        run, recipe: where they are.

    Args:
        category: of these images alone; ``None``: of all.
    """

    def __init__(self, run: RunFolder, recipe: str, category: str | None = None) -> None:
        if not recipe.isalnum():
            raise ConfigError(f"'{recipe}' is no recipe: name a folder below {run.uri}/{FOLDER}")
        self.run, self.recipe = run, recipe
        self._catalogue = counted_labels(label_artefacts(run, recipe)).within([category] if category is not None else [])
        self._catalogue.refuse_damaged()
        if not len(self._catalogue):
            what = f"no labels of the recipe {recipe}" + (f" and the category {category}" if category is not None else "")
            raise InputError(f"{run.uri} holds {what} that count: of pairs in its plan, made from its photos as they are now")

    def __len__(self) -> int:
        """Pairs, those without a label too."""
        return len(self._catalogue)

    def parts(self) -> Iterator[pa.Table]:
        """The pairs, file by file, for runs that do not fit in memory: tables as :meth:`pairs` returns them."""
        for table in self._catalogue.tables():
            yield pair_table(table.select(arrow_schema(Labels).names))

    def pairs(self) -> pa.Table:
        """A row a pair, with the columns of docs/labels.md; ``source_xy`` and ``target_xy`` are lists of [x, y]."""
        return pa.concat_tables(self.parts())

    def matches(self) -> pa.Table:
        """A row a match: ``pair_id``, ``source_id``, ``target_id``, ``category``, ``source_x``, ``source_y``, ``target_x``, ``target_y``
        in pixels of the photos, ``cosine``, ``cycle_error`` in source pixels, ``geodesic_error`` in mesh diagonals."""
        return pa.concat_tables(_matches(part) for part in self.parts())

    def images(self) -> pa.Table:
        """The photos of the run: ``image_id``, ``path``, ``category``, ``split``."""
        names = ["image_id", "path", "category", "split"]
        return self.run.read_table(ImageRecord, IMAGES, names).select(names)

    def torch(self) -> Dataset[dict[str, Any]]:
        """A PyTorch ``Dataset`` of the pairs that have labels.

        An item: ``source_id``, ``target_id``, ``category``, ``source_path``, ``target_path``; ``source_xy``, ``target_xy`` (N, 2) and
        ``cosine``, ``cycle_error``, ``geodesic_error`` (N,), float32 tensors. N differs from pair to pair: batches want a ``collate_fn``.
        """
        from sc3d.label_dataset import LabelledPairs

        pairs = self.pairs()
        paths = self.images()
        by_id = dict(zip(paths["image_id"].to_pylist(), paths["path"].to_pylist(), strict=True))
        return LabelledPairs(pairs.filter(pc.greater(pairs["n_kept"], 0)), by_id)


def _matches(pairs: pa.Table) -> pa.Table:
    """The matches of some pairs, a row each."""
    pairs = pairs.combine_chunks()
    row = pc.list_parent_indices(pairs["cosine"])
    columns = {name: pairs[name].take(row) for name in ("pair_id", "source_id", "target_id", "category")}
    for end in _ENDS:
        # Of all points at once: the numbers of a list of [x, y] lie side by side.
        flat = pc.list_flatten(pc.list_flatten(pairs[f"{end}_xy"])).to_numpy().reshape(-1, 2)
        columns |= {f"{end}_{axis}": pa.chunked_array([np.ascontiguousarray(flat[:, i])]) for i, axis in enumerate("xy")}
    return pa.table({**columns, **{name: pc.list_flatten(pairs[name]) for name in _EVIDENCE}})
