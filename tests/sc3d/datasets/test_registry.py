"""Each kind of data set is read by its reader, with its categories and subset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from dataset_copies import ap10k_entry, spair_image, spair_layout, write_ap10k, write_photo, write_tss
from PIL import Image

from actors.offline.masks import read_mask_file
from sc3d.config import DatasetConfig, RunConfig
from sc3d.datasets.check import check_dataset
from sc3d.datasets.dataset import Dataset
from sc3d.datasets.registry import DATASETS, dataset_of, read_dataset, subset_of
from sc3d.errors import ConfigError, InputError
from sc3d.evaluation.protocols import dataset_name, protocol_of, table_name, unit_of


def test_every_kind_has_a_reader() -> None:
    (_, option) = get_args(get_type_hints(DatasetConfig, include_extras=True)["kind"])
    for kind in DATASETS:
        assert kind in option.description
        assert isinstance(dataset_of(kind), Dataset)
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

    def read(kind: str, folder: str, **options: object) -> tuple[set[str], int]:
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


BIRDS = """
from sc3d.datasets.content import AnnotatedSet
from sc3d.datasets.dataset import Dataset, Protocol, Source
from sc3d.records import ImageRecord

def read(root, dataset, subset, paired):
    photos = sorted((root / subset).glob("*.png"))
    return AnnotatedSet([ImageRecord(photo.stem, str(photo), "bird") for photo in photos], [])

SOURCE = Source("Birds of tests", ("draw them",), images=2)
BIRDS = Dataset(read, ("wild", "tame"), Protocol("Birds", "image", (0.2,), by_subset=True), source=SOURCE)
NAMELESS = Dataset(read)
LISTED = Dataset(lambda *_: [])
NUMBER = 7
"""


@pytest.fixture
def birds(tmp_path: Path, install: Callable[[str, str, str], Path]) -> Path:
    """The root of a data set whose reader is a module of somebody else, and also of an installed package."""
    install("birds_of_registry", BIRDS, "[sc3d.datasets]\nbirds = birds_of_registry:BIRDS\n")
    for name in ("wild/a.png", "wild/b.png", "tame/c.png"):
        write_photo(tmp_path / "birds" / name)
    return tmp_path / "birds"


@pytest.mark.parametrize("kind", ["birds", "birds_of_registry:BIRDS"])
def test_a_data_set_of_ones_own_is_read_scored_and_checked(birds: Path, kind: str) -> None:
    dataset = DatasetConfig(kind=kind, root=str(birds))
    assert [image.image_id for image in read_dataset(dataset).images] == ["a", "b"]
    assert [i.image_id for i in read_dataset(DatasetConfig(kind=kind, root=str(birds), subset="tame")).images] == ["c"]
    with pytest.raises(ConfigError, match=f"of {kind} it must be one of wild, tame"):
        subset_of(DatasetConfig(kind=kind, root=str(birds), subset="large"))
    assert (protocol_of(kind).dataset, unit_of(RunConfig(dataset=dataset))) == ("Birds", "image")
    assert (table_name(kind, None), table_name(kind, "tame")) == ("Birds wild", "Birds tame")
    found = check_dataset(kind, birds)
    assert (found.name, found.get) == ("Birds of tests", ("draw them",))
    assert {count.what: (count.found, count.expected) for count in found.counts}["annotated images"] == (2, 2)


@pytest.mark.usefixtures("birds")
def test_a_data_set_without_a_protocol_is_scored_by_boxes_under_its_own_name() -> None:
    kind = "birds_of_registry:NAMELESS"
    protocol = protocol_of(kind)
    assert (protocol.dataset, protocol.unit, protocol.groups_of("", "bird").repeated) == (kind, "box", ())
    assert table_name(kind, None) == dataset_name(kind) == kind
    with pytest.raises(ConfigError, match="birds_of_registry:NAMELESS has no source"):
        check_dataset(kind, "anywhere")


@pytest.mark.usefixtures("birds")
def test_unknown_kinds_name_what_is_near() -> None:
    for kind, reason in (
        ("bird", r"no data set named 'bird' \(did you mean birds\?\); there are folder, table, toys, .*, tss, birds;"),
        ("spair_u", r"did you mean spair-u or spair\?"),
        ("birds_of_registry:NUMBER", "must be a sc3d.datasets.dataset.Dataset, not 7"),
        ("owls_of_registry:OWLS", "no module 'owls_of_registry'"),
    ):
        for use in (read_dataset, subset_of):
            with pytest.raises(ConfigError, match=reason):
                use(DatasetConfig(kind=kind, root="x"))
        with pytest.raises(ConfigError, match=reason):
            protocol_of(kind)
    with pytest.raises(ConfigError, match="'birds_of_registry:LISTED' must return an AnnotatedSet, not a list"):
        read_dataset(DatasetConfig(kind="birds_of_registry:LISTED", root="x"))


def test_names_in_tables_need_no_data_set() -> None:
    names = {"spair": "SPair-71k", "SPair-71k": "SPair-71k", "AP-10K cross-species": "AP-10K cross-species", "toys": "toys"}
    assert {name: dataset_name(name) for name in (*names, "gone:GONE")} == {**names, "gone:GONE": "gone:GONE"}


def test_masks_of_ones_own_data_set_show_the_object(birds: Path) -> None:
    """Where the data set does not say otherwise, a mask file of any size serves, as with a folder of photos."""
    write_photo(birds / "mask.png", (20, 10))
    Image.fromarray(np.pad(np.full((5, 10), 255, np.uint8), ((0, 5), (0, 10)))).save(birds / "mask.png")
    image = np.zeros((20, 40, 3), np.uint8)
    row = {
        "image": image,
        "mask_path": str(birds / "mask.png"),
        "path": str(birds / "wild/a.png"),
        "category": "bird",
        "bbox": None,
    }
    found = read_mask_file(row, DatasetConfig(kind="birds"))
    assert found.shape == (20, 40)
    assert found[:9, :18].all()
    assert not found[11:].any()
