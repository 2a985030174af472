"""Each kind of data set is read by its reader, with its categories and subset."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from dataset_copies import ap10k_entry, spair_image, spair_layout, write_ap10k, write_photo, write_tss
from PIL import Image

from actors.offline.masks import read_mask_file
from sc3d.config import DatasetConfig, DatasetName
from sc3d.datasets.registry import LAYOUTS, read_dataset, subset_of
from sc3d.errors import ConfigError, InputError


def test_every_kind_has_a_reader() -> None:
    assert set(LAYOUTS) == set(get_args(DatasetName))
    for kind in LAYOUTS:
        with pytest.raises(InputError):
            read_dataset(DatasetConfig(kind=kind, root="/nonexistent"))
        with pytest.raises(ConfigError, match="no images"):
            read_dataset(DatasetConfig(kind=kind))


def test_subsets() -> None:
    assert subset_of(DatasetConfig(kind="ap10k")) == "intra-species"
    assert subset_of(DatasetConfig(kind="spair", subset="small")) == "small"
    assert subset_of(DatasetConfig()) == ""
    for kind, subset, reason in (
        ("ap10k", "small", "of ap10k it must be one of intra-species, cross-species, cross-family"),
        ("tss", "large", "of tss it must be left out"),
    ):
        with pytest.raises(ConfigError, match=reason):
            read_dataset(DatasetConfig(kind=kind, root="x", subset=subset))


def test_options_reach_the_readers(tmp_path: Path) -> None:
    for category in ("cat", "dog"):
        write_photo(tmp_path / "photos" / category / "a.png")
        for stem in ("a", "b"):
            spair_image(tmp_path / "spair", category, stem)
    for size, names in (("large", ("000001-a-b:cat", "000002-b-a:cat", "000003-a-b:dog")), ("small", ("000001-a-b:cat",))):
        for split in ("trn", "val", "test"):
            spair_layout(tmp_path / "spair", split, names if split == "test" else (), size)

    def read(kind: DatasetName, folder: str, **options: object) -> tuple[set[str], int]:
        data = read_dataset(DatasetConfig(kind=kind, root=str(tmp_path / folder), **options))
        return {image.category for image in data.images}, len(data.pairs)

    assert read("folder", "photos") == ({"cat", "dog"}, 0)
    assert read("folder", "photos", categories=("dog",)) == ({"dog"}, 0)
    assert read("spair", "spair") == ({"cat", "dog"}, 3)
    assert read("toys", "spair", subset="small") == ({"cat"}, 1)
    assert read("spair", "spair", categories=("dog",)) == ({"dog"}, 1)
    families = {("Felidae", "cat"): [ap10k_entry(1), ap10k_entry(2)], ("Canidae", "dog"): [ap10k_entry(3)]}
    write_ap10k(tmp_path / "ap", families)
    assert read("ap10k", "ap") == ({"cat", "dog"}, 1)
    assert read("ap10k", "ap", subset="cross-family") == ({"cat", "dog"}, 2)


def test_masks_of_tss_serve_as_masks(tmp_path: Path) -> None:
    """Colour files too, whose values are not just 0 and 255."""
    folder = write_tss(tmp_path, "PASCAL/bus_1")
    mask = Image.open(folder / "mask1.png")
    mask.point(lambda v: 250 if v else 3).convert("RGB").save(folder / "mask1.png")
    dataset = DatasetConfig(kind="tss", root=str(tmp_path))
    image = read_dataset(dataset).images[0]
    row = {"image": np.asarray(Image.open(image.path)), "mask_path": image.mask_path, "path": image.path}
    found = read_mask_file({**row, "category": image.category, "bbox": image.bbox}, dataset)
    np.testing.assert_array_equal(found, np.asarray(mask) > 127)
