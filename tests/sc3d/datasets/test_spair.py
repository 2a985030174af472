"""Reading SPair-71k's layout: the dataset's own examples, the toys, and damaged copies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sc3d.datasets.keypoint_groups import keypoint_groups
from sc3d.datasets.segmentation import VOC_CLASSES, read_segmentation
from sc3d.datasets.spair import read_spair
from sc3d.datasets.toys import ToysConfig, generate_toys, toy_truth
from sc3d.errors import InputError


def write_image(root: Path, category: str, stem: str, shown: dict[int, Any] | None = None, **changes: Any) -> Path:
    folder = root / "ImageAnnotation" / category
    folder.mkdir(parents=True, exist_ok=True)
    points = {0: [1, 2], 2: [3, 4]} if shown is None else shown
    annotation = {
        "filename": f"{stem}.jpg", "image_width": 40, "image_height": 30, "category": category, "bndbox": [1, 2, 30, 20],
        "kps": {str(i): points.get(i) for i in range(30)},
    }  # fmt: skip
    path = folder / f"{stem}.json"
    path.write_text(json.dumps(annotation | changes))
    return path


def write_layout(root: Path, split: str, *names: str, size: str = "large") -> Path:
    path = root / "Layout" / size / f"{split}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for category, stem in (("cat", "a_1"), ("cat", "a_2"), ("cat", "b_1"), ("dog", "a_1"), ("dog", "a_2"), ("cat", "alone")):
        write_image(tmp_path, category, stem)
    write_layout(tmp_path, "trn", "000001-a_1-a_2:cat", "000002-a_2-a_1:cat", "000003-a_2-a_1:dog")
    write_layout(tmp_path, "val", "000001-b_1-b_1:cat")
    write_layout(tmp_path, "test")
    write_layout(tmp_path, "trn", "000002-a_2-a_1:cat", size="small")
    return tmp_path


def test_examples_of_the_dataset(shared: Path) -> None:
    folder = shared / "data" / "spair_samples"
    data = read_spair(folder)
    (pair,) = data.pairs
    assert (pair.source_id, pair.target_id) == ("aeroplane-2008_002719", "aeroplane-2008_004100")
    assert (pair.category, pair.split) == ("aeroplane", "test")
    source, target = data.images
    # As the pair's own file states them.
    stated = json.loads(next((folder / "PairAnnotation" / "test").glob("*.json")).read_text())
    common = sorted(set(source.keypoint_ids.tolist()) & set(target.keypoint_ids.tolist()))
    assert [str(i) for i in common] == stated["kps_ids"] == ["0", "7", "11"]
    for image, side in ((source, "src"), (target, "trg")):
        xy = dict(zip(image.keypoint_ids.tolist(), image.keypoint_xy.tolist(), strict=True))
        assert [xy[i] for i in common] == stated[f"{side}_kps"]
        assert image.bbox.tolist() == stated[f"{side}_bndbox"]
        assert image.path == str(folder / "JPEGImages" / "aeroplane" / stated[f"{side}_imname"])
        assert image.mask_path is None
        assert image.truth_path is None
    assert read_spair(folder, splits=("trn",)).pairs == []


def test_layout_decides_what_is_read(root: Path) -> None:
    data = read_spair(root)
    assert [p.pair_id for p in data.pairs] == [
        "cat-a_1~cat-a_2", "cat-a_2~cat-a_1", "dog-a_2~dog-a_1", "cat-b_1~cat-b_1",
    ]  # fmt: skip
    assert [p.split for p in data.pairs] == ["trn", "trn", "trn", "val"]
    assert [(i.image_id, i.split) for i in data.images] == [
        ("cat-a_1", "trn"), ("cat-a_2", "trn"), ("cat-b_1", "val"), ("dog-a_1", "trn"), ("dog-a_2", "trn"),
    ]  # fmt: skip
    first = data.images[0]
    assert first.keypoint_ids.tolist() == [0, 2]
    assert first.keypoint_xy.tolist() == [[1, 2], [3, 4]]
    assert [i.image_id for i in read_spair(root, categories=("dog",)).images] == ["dog-a_1", "dog-a_2"]
    assert [i.image_id for i in read_spair(root, splits=("val",)).images] == ["cat-b_1"]
    small = read_spair(root, splits=("trn",), size="small")
    assert [p.pair_id for p in small.pairs] == ["cat-a_2~cat-a_1"]


def test_a_pair_listed_twice_is_one_pair(root: Path) -> None:
    write_layout(root, "trn", "000001-a_1-a_2:cat", "000002-a_1-a_2:cat")
    assert len(read_spair(root, splits=("trn",)).pairs) == 1


def test_without_a_layout_all_pair_files_count(root: Path) -> None:
    for split in ("trn", "val", "test"):
        for size in ("large", "small"):
            (root / "Layout" / size / f"{split}.txt").unlink(missing_ok=True)
    for folder in ("large", "small", ""):
        (root / "Layout" / folder).rmdir()
    with pytest.raises(InputError, match="neither a folder Layout nor PairAnnotation"):
        read_spair(root)
    (root / "PairAnnotation" / "val").mkdir(parents=True)
    (root / "PairAnnotation" / "val" / "000009-a_1-b_1:cat.json").write_text("{}")
    (pair,) = read_spair(root).pairs
    assert (pair.pair_id, pair.split) == ("cat-a_1~cat-b_1", "val")


def test_masks_and_truth_are_found_beside_the_annotations(root: Path) -> None:
    for folder, extension in (("Segmentation", "png"), ("truth", "npz")):
        (root / folder / "cat").mkdir(parents=True)
        (root / folder / "cat" / f"a_2.{extension}").touch()
    images = {i.image_id: i for i in read_spair(root).images}
    assert images["cat-a_2"].mask_path == str(root / "Segmentation" / "cat" / "a_2.png")
    assert images["cat-a_2"].truth_path == str(root / "truth" / "cat" / "a_2.npz")
    assert images["cat-a_1"].mask_path is images["dog-a_2"].truth_path is None


def test_names_become_safe_ids(root: Path) -> None:
    write_image(root, "cat", "x y+ä")
    write_layout(root, "val", "000001-x y+ä-b_1:cat")
    data = read_spair(root, splits=("val",))
    assert data.pairs[0].source_id == "cat-x_y__"
    write_image(root, "cat", "x y_ä")
    write_layout(root, "val", "000001-x y+ä-x y_ä:cat")
    with pytest.raises(InputError, match="both called cat-x_y__"):
        read_spair(root, splits=("val",))


def test_an_image_in_two_splits_is_refused(root: Path) -> None:
    write_layout(root, "val", "000001-a_1-b_1:cat")
    with pytest.raises(InputError, match=r"val\.txt, line 1: image 'cat/a_1' is in a pair of val and in one of trn"):
        read_spair(root)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kps": None}, "kps: Input should be an object"),
        ({"kps": {"0": [1, 2, 3]}}, "kps.'0': .*at most 2"),
        ({"kps": {"0": [1, float("nan")]}}, "kps.'0'.1: .*finite number"),
        ({"kps": {"0": "12"}}, "kps.'0': .*array"),
        ({"kps": {"0": ["1", 2]}}, "kps.'0'.0: .*number"),
        ({"kps": {"0": [True, 2]}}, "kps.'0'.0: .*number"),
        ({"kps": {"0": [1e300, 2]}}, "kps.'0'.0: .*less than"),
        ({"kps": {"nose": [1, 2]}}, "kps.nose.*integer"),
        ({"kps": {"-1": [1, 2]}}, "kps.'-1'.*greater than or equal to 0"),
        ({"kps": {str(2**31): [1, 2]}}, "kps.*less than"),
        ({"kps": {str(i): None for i in range(20_000)}}, "kps: .*at most 10000"),
        ({"bndbox": [1, 2, 3]}, "bndbox.3: Field required"),
        ({"bndbox": [5, 5, 5, 9]}, "empty box"),
        ({"bndbox": None}, "bndbox: .*array"),
        ({"filename": 7}, "filename: .*string"),
        ({"filename": "a\x1b[2J.jpg"}, "filename: .*pattern"),
    ],
)
def test_malformed_annotations_are_named(root: Path, changes: dict, reason: str) -> None:
    path = write_image(root, "cat", "a_2", **changes)
    with pytest.raises(InputError, match=rf"a_2\.json: not an image annotation.*\({reason}"):
        read_spair(root)
    path.write_text('{"kps": ')
    with pytest.raises(InputError, match=r"a_2\.json: cannot be read as JSON"):
        read_spair(root)
    path.write_text("[]")
    with pytest.raises(InputError, match=r"a_2\.json: not an image annotation"):
        read_spair(root)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"a_2\.json: cannot be read as JSON"):
        read_spair(root)


def test_an_annotation_has_a_size_and_a_depth(root: Path) -> None:
    path = write_image(root, "cat", "a_2", more=["x" * 1000] * 2000)
    with pytest.raises(InputError, match=r"a_2\.json: the file of 2\.0 MB is larger than 1\.04858 MB"):
        read_spair(root)
    path.write_text("[" * 5000 + "]" * 5000)
    with pytest.raises(InputError, match=r"a_2\.json: cannot be read as JSON \(Invalid JSON: recursion limit exceeded"):
        read_spair(root)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"a_2\.json"):
        read_spair(root)


def test_a_name_in_a_list_leads_to_no_other_folder(root: Path) -> None:
    for bad in ("000001-../a_1-a_2:cat", "000001-a_1-a_2:../cat", f"000001-{'x' * 300}-a_2:cat", "000001-a\x00b-a_2:cat"):
        write_layout(root, "trn", bad)
        with pytest.raises(InputError, match=r"trn\.txt, line 1"):
            read_spair(root)


def test_no_visible_keypoint_is_no_error(root: Path) -> None:
    write_image(root, "cat", "a_2", shown={})
    image = next(i for i in read_spair(root).images if i.image_id == "cat-a_2")
    assert image.keypoint_ids.shape == (0,)
    assert image.keypoint_xy.shape == (0, 2)


def test_pairs_that_cannot_be_are_named(root: Path, tmp_path: Path) -> None:
    write_layout(root, "trn", "000001-a_1-a_2:cat", "", "000002-a_1-nobody:cat")
    with pytest.raises(InputError, match=r"trn\.txt, line 3: names the image 'nobody'"):
        read_spair(root)
    for bad in ("a_1-a_2:cat", "000001-a_1:cat", "000001-a_1-a_2", "000001-a-b-c:cat"):
        write_layout(root, "trn", bad)
        with pytest.raises(InputError, match=r"trn\.txt, line 1: .* is not a pair's name"):
            read_spair(root)
    (root / "Layout" / "large" / "trn.txt").unlink()
    with pytest.raises(InputError, match=r"trn\.txt: no such file"):
        read_spair(root)


def test_arguments_are_checked(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder ImageAnnotation"):
        read_spair(tmp_path / "nowhere")
    for arguments, reason in (
        ({"splits": ("train",)}, "splits must be"),
        ({"splits": ()}, "splits must be"),
        ({"size": "medium"}, "size must be"),
        ({"categories": ("cow",)}, "no annotations of cow; there are cat, dog"),
    ):
        with pytest.raises(InputError, match=reason):
            read_spair(root, **arguments)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toys") / "toys"
    config = ToysConfig(categories=("bottle", "mug"), images={"trn": 2, "val": 2, "test": 2}, width=160, height=120, workers=1)
    generate_toys(folder, config)
    return folder


def test_toys_are_read_like_spair(toys: Path) -> None:
    data = read_spair(toys)
    images = {image.image_id: image for image in data.images}
    assert [p.split for p in data.pairs if p.category == "bottle"] == ["trn"] * 2 + ["val"] * 2 + ["test"] * 2
    for pair in data.pairs:
        source, target = images[pair.source_id], images[pair.target_id]
        assert pair.split == source.split == target.split
        assert len(np.intersect1d(source.keypoint_ids, target.keypoint_ids)) >= 3
    for image in data.images:
        truth = toy_truth(image.truth_path)
        assert Image.open(image.path).size == (truth.camera.width, truth.camera.height)
        np.testing.assert_array_equal(read_segmentation(image.mask_path, image.category), truth.mask)
        np.testing.assert_array_equal(read_segmentation(image.mask_path, image.category, image.bbox), truth.mask)
        assert image.keypoint_ids.tolist() == np.flatnonzero(truth.visible).tolist()


def test_class_maps_give_the_category_alone(tmp_path: Path) -> None:
    values = np.zeros((20, 30), np.uint8)
    values[2:8, 2:8] = VOC_CLASSES.index("car") + 1
    values[2:8, 20:28] = VOC_CLASSES.index("car") + 1
    values[10:15, 2:8] = VOC_CLASSES.index("person") + 1
    values[8, 2:8] = 255
    palette = Image.fromarray(values, mode="L").convert("P")
    palette.putpalette([i % 256 for i in range(768)])
    palette.putdata(values.ravel().tolist())
    palette.save(tmp_path / "a.png")
    assert read_segmentation(tmp_path / "a.png", "car").sum() == 36 + 48
    assert read_segmentation(tmp_path / "a.png", "person").sum() == 30
    boxed = read_segmentation(tmp_path / "a.png", "car", np.array([0, 0, 12.5, 9]))
    np.testing.assert_array_equal(boxed, (values == 7) & (np.arange(30) < 13))
    for category, reason in (("cow", "shows no cow"), ("mug", "none of PASCAL VOC's")):
        with pytest.raises(InputError, match=reason):
            read_segmentation(tmp_path / "a.png", category)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match="one channel"):
        read_segmentation(tmp_path / "b.png", "car")
    (tmp_path / "c.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"c\.png: the segmentation cannot be read"):
        read_segmentation(tmp_path / "c.png", "car")


def test_groups_of_spair() -> None:
    """Raw ids: bus has no keypoint 8 or 9, and its group of roof corners is [2, 3, 5, 6] (not renumbered, as some tools do)."""
    bus = keypoint_groups("spair", "bus")
    assert (2, 3, 5, 6) in bus.repeated
    assert (10, 20) in bus.mirrored
    assert len(bus.side) == 30
    for category in ("aeroplane", "bottle", "cat", "tvmonitor"):
        groups = keypoint_groups("spair", category)
        for left_right in groups.mirrored:
            assert {groups.side[i] for i in left_right} == {1, 2}
    animal = keypoint_groups("ap10k", "any species")
    assert (6, 9, 12, 15) in animal.repeated
    assert [animal.side[i] for i in (0, 1, 2)] == [1, 2, 0]


def test_groups_are_those_of_the_published_evaluation(shared: Path) -> None:
    facts = json.loads((shared / "data" / "keypoint_groups.json").read_text())
    for category, table in facts["spair"].items():
        groups = keypoint_groups("spair", category)
        assert [list(g) for g in groups.repeated] == table["repeated"]
        assert [list(g) for g in groups.mirrored] == table["mirrored"]
        assert list(groups.side) == table["side"]
    assert [list(g) for g in keypoint_groups("ap10k", "").repeated] == facts["ap10k"]["repeated"]
    assert len(facts["spair"]) == 18


def test_groups_of_a_folder(toys: Path, root: Path, tmp_path: Path) -> None:
    mug = keypoint_groups(toys, "mug")
    rim = next(g for g in mug.repeated if mug.names[g[0]] == "rim_front")
    assert [mug.names[i] for i in rim] == ["rim_front", "rim_back", "rim_left", "rim_right"]
    assert (mug.names.index("rim_left"), mug.names.index("rim_right")) in mug.mirrored
    assert mug.side[mug.names.index("rim_right")] == 2
    assert keypoint_groups(root, "cat") == keypoint_groups("spair", "cat")
    for dataset, category, reason in (
        (toys, "bus", r"keypoints\.json: no category 'bus'; there are bottle, mug"),
        ("spair", "mug", "SPair-71k: no category 'mug'"),
        (tmp_path / "nowhere", "cat", "neither a dataset's name"),
    ):
        with pytest.raises(InputError, match=reason):
            keypoint_groups(dataset, category)
    for text, reason in (
        ("{", "cannot be read"),
        ("[]", "a table of keypoint groups for each category"),
        ('{"cat": {"side": 1}}', r"keypoints\.json: not a table .*\(cat\.repeated: Field required"),
        ('{"cat": {"side": [0], "repeated": [[0, 1]], "mirrored": []}}', "category cat: malformed keypoint groups"),
    ):
        (root / "keypoints.json").write_text(text)
        with pytest.raises(InputError, match=reason):
            keypoint_groups(root, "cat")


def test_windows_line_ends_and_byte_order_marks_are_read_over(root: Path) -> None:
    expected = [p.pair_id for p in read_spair(root).pairs]
    for path in (*root.glob("Layout/*/*.txt"), *root.glob("ImageAnnotation/*/*.json")):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert [p.pair_id for p in read_spair(root).pairs] == expected


def test_names_with_accents_are_read(root: Path) -> None:
    write_image(root, "cat", "Éte_Ñ_猫")
    write_layout(root, "val", "000001-Éte_Ñ_猫-b_1:cat")
    image = next(i for i in read_spair(root, splits=("val",)).images if i.path.endswith("Éte_Ñ_猫.jpg"))
    assert image.image_id == "cat-_te____"


def test_all_missing_annotations_are_named_at_once(root: Path) -> None:
    for stem in ("a_1", "a_2"):
        (root / "ImageAnnotation" / "cat" / f"{stem}.json").unlink()
    with pytest.raises(InputError, match=r"line 1: names the image 'a_1', but .*a_1\.json is missing \(so are 1 others: cat/a_2\)"):
        read_spair(root)


def test_a_replaced_colon_is_recognised(root: Path) -> None:
    write_layout(root, "trn", "000001-a_1-a_2_cat")
    with pytest.raises(InputError, match=r"is not a pair's name.*colon replaced"):
        read_spair(root)


def test_every_listed_pair_is_counted(root: Path) -> None:
    write_layout(root, "trn", "000001-a_1-a_2:cat", "000002-a_1-a_2:cat")
    data = read_spair(root)
    assert data.listed == {"trn": 2, "val": 1}
    assert data.left_out == ()


def test_keypoints_outside_the_image_stay(root: Path) -> None:
    """The protocol scores them: their cell is the nearest one, and a prediction can be near enough."""
    write_image(root, "cat", "a_2", shown={0: [-3, 500]})
    image = next(i for i in read_spair(root).images if i.image_id == "cat-a_2")
    assert image.keypoint_xy.tolist() == [[-3, 500]]


def test_images_without_their_pairs(root: Path) -> None:
    whole, part = read_spair(root), read_spair(root, paired=("val", "test"))
    assert [p.pair_id for p in part.pairs] == ["cat-b_1~cat-b_1"]
    assert [i.image_id for i in part.images] == [i.image_id for i in whole.images]
    assert part.listed == whole.listed
