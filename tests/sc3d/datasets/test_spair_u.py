"""SPair-U is found wherever its users unpack it, and is never taken for SPair-71k."""

from __future__ import annotations

from pathlib import Path

import pytest
from dataset_copies import spair_image, spair_layout, spair_pair, write_photo

from sc3d.datasets.spair import read_spair
from sc3d.datasets.spair_u import read_spair_u
from sc3d.errors import InputError

SEVEN = {"kps": {"7": [5, 6], "8": None}}
NAME = "000003-a-b:cat"


@pytest.fixture
def spair(tmp_path: Path) -> Path:
    """SPair-71k itself: its pairs must not be read."""
    root = tmp_path / "data" / "SPair-71k"
    for stem in ("a", "b", "c"):
        spair_image(root, "cat", stem)
        write_photo(root / "JPEGImages" / "cat" / f"{stem}.jpg")
    (root / "Segmentation" / "cat").mkdir(parents=True)
    (root / "Segmentation" / "cat" / "a.png").touch()
    spair_layout(root, "test", ["000001-a-c:cat"])
    spair_pair(root, "test", "000001-a-c:cat")
    return root


def write_spair_u(folder: Path, prefix: str = "") -> None:
    for stem in ("a", "b"):
        spair_image(folder, "cat", stem, f"{prefix}ImageAnnotation", **SEVEN)
    spair_pair(folder, "test", NAME, f"{prefix}PairAnnotation")


@pytest.mark.parametrize(
    ("place", "prefix", "root"),
    [
        ("SPair-71k", "Extra", "SPair-71k"),
        ("SPair-71k/SPair-U", "Extra", "SPair-71k"),
        ("SPair-71k/SPair-U", "", "SPair-71k"),
        ("SPair-U", "", "SPair-71k"),
        ("SPair-U", "Extra", "SPair-71k"),
        ("SPair-U", "", "SPair-U"),
        ("SPair-U", "Extra", "SPair-U"),
        ("SPair-U", "", "."),
        ("elsewhere", "", "elsewhere"),
    ],
)
def test_places(spair: Path, place: str, prefix: str, root: str) -> None:
    data_folder = spair.parent
    write_spair_u(data_folder / place, prefix)
    data = read_spair_u(data_folder / root)
    (pair,) = data.pairs
    assert (pair.pair_id, pair.split, pair.category) == ("cat-a~cat-b", "test", "cat")
    first, second = data.images
    assert first.keypoint_ids.tolist() == [7]
    assert Path(first.path).resolve() == (spair / "JPEGImages" / "cat" / "a.jpg").resolve()
    assert Path(first.path).is_file()
    assert first.mask_path is not None
    assert second.mask_path is None
    assert data.listed == {"test": 1}


def test_image_ids_are_those_of_spair(spair: Path) -> None:
    write_spair_u(spair, "Extra")
    ids = {image.path: image.image_id for image in (*read_spair(spair, splits=("test",)).images, *read_spair_u(spair).images)}
    assert sorted(ids.values()) == ["cat-a", "cat-b", "cat-c"]


def test_what_is_missing_is_named(spair: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no annotations of SPair-U.*ExtraImageAnnotation"):
        read_spair_u(spair)
    alone = tmp_path / "other" / "SPair-U"
    write_spair_u(alone)
    with pytest.raises(InputError, match=r"no folder JPEGImages.*put SPair-71k beside it"):
        read_spair_u(alone)
    write_spair_u(spair.parent / "SPair-U")
    with pytest.raises(InputError, match="no annotations of dog"):
        read_spair_u(spair, categories=("dog",))
    (spair.parent / "SPair-U" / "ImageAnnotation" / "cat" / "b.json").unlink()
    with pytest.raises(InputError, match=rf"{NAME}\.json: names the image 'b', but .*b\.json is missing"):
        read_spair_u(spair)
