"""The labels of a run as an export reads them: file by file, with the names and sizes of their images, and the split of each pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.folder.manifest import IMAGES, LABELLED_SPLIT
from pipelines.stages.label import LabelStage, label_catalogue
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.addresses import shown
from sc3d.artefacts import category_of
from sc3d.config import LabelConfig, RunConfig
from sc3d.errors import ConfigError, InputError
from sc3d.images import load_image
from sc3d.matching.thresholds import apply_thresholds
from sc3d.records import ImageRecord, Labels
from sc3d.schema import from_table, to_table
from sc3d.store import RunFolder

HELD_OUT_SPLIT = "val"

FormatName = Literal["huggingface", "diy-sc"]
_FORMATS = ("huggingface", "diy-sc")


@dataclass(frozen=True)
class ExportOptions:
    """What is exported, and how.

    Attributes:
        format: huggingface, or diy-sc.
        labels: recipe of the labels in the run folder, such as an import prints; none: the run's own.
        tau_cc, tau_geo: thresholds that are narrower than those of the labels; none: as they are.
        min_labels: pairs with fewer labels are left out.
        val_fraction: share of the labelled pairs that is put into the validation split; a pair goes there together with its reverse.
        names: what images are called in DIY-SC's files: their file names, or their ids with the file's ending.
        licence: of the labels, for the card; none: left to be filled in.
        overwrite: replace another export in the folder.
    """

    format: FormatName = "huggingface"
    labels: str | None = None
    tau_cc: float | None = None
    tau_geo: float | None = None
    min_labels: int = 1
    val_fraction: float = 0.0
    names: Literal["file", "id"] = "file"
    licence: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.format not in _FORMATS:
            raise ConfigError(f"format must be {' or '.join(_FORMATS)}, got '{self.format}'")
        if self.names not in ("file", "id"):
            raise ConfigError(f"names must be file or id, got '{self.names}'")
        for name in ("tau_cc", "tau_geo"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} must be greater than 0, got {value}")
        if self.min_labels < 0:
            raise ConfigError(f"min_labels must be 0 or more, got {self.min_labels}")
        if not 0 <= self.val_fraction < 1:
            raise ConfigError(f"val_fraction must be at least 0 and less than 1, got {self.val_fraction}")
        if self.format == "diy-sc" and self.min_labels < 1:
            raise ConfigError("min_labels must be at least 1 for diy-sc: a pair without keypoints stops its training")


class RunImages:
    """The images of a run's manifest as columns. ``ids``, ``paths``, ``categories``, ``splits``: one a row; ``index``: id -> row."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._run = RunFolder(config.run)
        if not self._run.exists(IMAGES):
            raise InputError(f"{self._run.uri} has no manifest of images; run sc3d label or sc3d describe on it first")
        table = self._run.read_table(ImageRecord, IMAGES, ["image_id", "path", "category", "split"])
        self.ids, self.paths, self.categories, self.splits = (table[name].to_pylist() for name in table.column_names)
        self.index: Mapping[str, int] = {image_id: row for row, image_id in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def row_of(self, image_id: str) -> int:
        """Row of an image.

        Raises:
            InputError: the manifest does not have it.
        """
        try:
            return self.index[image_id]
        except KeyError:
            raise InputError(f"labels name the image '{image_id}', which the run's manifest does not have") from None

    def file_name(self, row: int) -> str:
        """The image's file name, without folders."""
        return shown(self.paths[row]).rpartition("/")[2]

    def name_by_id(self, row: int) -> str:
        """The image's id with the ending of its file name."""
        return f"{self.ids[row]}{PurePosixPath(self.file_name(row)).suffix}"

    def file_below_root(self, row: int) -> str:
        """The image's path below the root of its data set, or its file name where it lies elsewhere."""
        root, path = self._config.dataset.root, self.paths[row]
        if root and not urlsplit(path).scheme and Path(path).is_relative_to(root):
            return Path(path).relative_to(root).as_posix()
        return self.file_name(row)

    @cached_property
    def known_sizes(self) -> np.ndarray:
        """Width and height (images, 2) int64 of each upright image, as reconstructed; 0 where that was not done."""
        sizes = np.zeros((len(self), 2), np.int64)
        table = ReconstructStage(self._config).catalogue().columns(["image_id", "width", "height"])
        for image_id, width, height in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
            if image_id in self.index:
                sizes[self.index[image_id]] = width, height
        return sizes

    def size(self, row: int) -> tuple[int, int]:
        """Width and height of an upright image; one that was not reconstructed is opened.

        Raises:
            InputError: it cannot be read.
        """
        if not self.known_sizes[row, 0]:
            height, width, _ = load_image(self.paths[row]).shape
            self.known_sizes[row] = width, height
        width, height = self.known_sizes[row].tolist()
        return width, height


@dataclass(frozen=True, eq=False)
class LabelPart:
    """What is exported of a label file: its rows by split, of one ``category``; ``rows`` of their images, and how many ``left_out``."""

    category: str
    tables: Mapping[str, pa.Table]
    rows: np.ndarray
    left_out: int


class LabelSource:
    """The labels that an export is about.

    Raises:
        ConfigError: the options ask for wider thresholds than the labels have.
        InputError: there are none.
        DamagedFileError: some of them cannot be read.
    """

    def __init__(self, config: RunConfig, options: ExportOptions) -> None:
        self.config, self.options = config, options
        self.catalogue = label_catalogue(config, options.labels)
        self.catalogue.refuse_damaged()
        self.artefacts = self.catalogue.artefacts
        self.is_own = self.artefacts.recipe == LabelStage(config).recipe
        self.files = self.catalogue.files_used
        if not self.files:
            what = f"no labels of the recipe {options.labels}" if options.labels else "no labels of its present configuration"
            raise InputError(f"{self.artefacts.run.uri} holds {what}; run sc3d label first")
        self.images = RunImages(config)
        self._hashes = _hashes(self.images.ids) if options.val_fraction else None
        self._narrow = self._narrower()

    @cached_property
    def stored_thresholds(self) -> LabelConfig | None:
        """The thresholds of the labels; ``None`` for labels without evidence, or where there is no row at all."""
        for name in self.files:
            table = self.catalogue.table(name, ["tau_cc", "tau_geo"])
            if len(table):
                cycle, geodesic = table["tau_cc"][0].as_py(), table["tau_geo"][0].as_py()
                return LabelConfig(cycle, geodesic) if cycle > 0 and geodesic > 0 else None
        return None

    @property
    def thresholds(self) -> LabelConfig | None:
        """The thresholds of what is exported."""
        return self._narrow or self.stored_thresholds

    def part(self, name: str) -> LabelPart:
        """What is exported of a label file.

        Raises:
            SchemaError: the file is damaged, or no label file.
            InputError: it names an image that the manifest does not have.
        """
        table = self.catalogue.table(name)
        total = len(table)
        if self._narrow is not None:
            rows = from_table(Labels, table, f"{self.artefacts.run.uri}/{name}")
            table = to_table(Labels, [apply_thresholds(row, self._narrow) for row in rows])
        table = table.filter(pc.greater_equal(pc.list_value_length(table["cosine"]), self.options.min_labels))
        ends = [np.array([self.images.row_of(i) for i in table[key].to_pylist()], np.int64) for key in ("source_id", "target_id")]
        splits = self._splits(*ends)
        tables = {split: table.filter(pa.array(splits == split)) for split in dict.fromkeys(splits.tolist())}
        return LabelPart(category_of(name), tables, np.concatenate(ends), total - len(table))

    def _splits(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """The split of each pair: its source's, unless it is held out."""
        splits = np.array([self.images.splits[row] for row in source.tolist()], dtype="U16")
        if self._hashes is not None:
            # The sum is the same for a pair and its reverse; the product's upper bits depend on all bits of it.
            mixed = (self._hashes[source] + self._hashes[target]) * np.uint64(0x9E3779B97F4A7C15)
            held_out = (mixed >> np.uint64(11)).astype(np.float64) / 2**53 < self.options.val_fraction
            splits[held_out & (splits == LABELLED_SPLIT)] = HELD_OUT_SPLIT
        return splits

    def _narrower(self) -> LabelConfig | None:
        wanted = {name: getattr(self.options, name) for name in ("tau_cc", "tau_geo") if getattr(self.options, name) is not None}
        if not wanted:
            return None
        stored = self.stored_thresholds
        if stored is None:
            raise ConfigError("these labels have no evidence, so no other thresholds can be applied to them")
        for name, value in wanted.items():
            if value > getattr(stored, name):
                raise ConfigError(
                    f"{name} = {value:g} is wider than the labels' {getattr(stored, name):g}; widen them first: "
                    f"sc3d relabel --{name.replace('_', '-')} {value:g}"
                )
        return LabelConfig(**{"tau_cc": stored.tau_cc, "tau_geo": stored.tau_geo, **wanted})


def _hashes(ids: list[str]) -> np.ndarray:
    return np.frombuffer(b"".join(blake2b(i.encode(), digest_size=8).digest() for i in ids), np.uint64)
