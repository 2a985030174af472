"""TSS: flow becomes keypoints where it should, mirrored pairs are left out, damaged files are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_copies import write_flow, write_tss
from PIL import Image

from sc3d.datasets.tss import read_flow, read_tss, sample_flow
from sc3d.errors import InputError
from sc3d.evaluation.pck import common_keypoints


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_tss(tmp_path, "FG3DCar/002_003")
    write_tss(tmp_path, "FG3DCar/001_005", mirrored=True)
    write_tss(tmp_path, "JODS/Horse_01_02", mirrored=None)
    write_tss(tmp_path, "PASCAL/bus_1_2")
    (tmp_path / "PASCAL" / ".hidden").mkdir()
    return tmp_path


def test_pairs_of_each_folder(root: Path) -> None:
    data = read_tss(root)
    assert [(p.split, p.category, p.pair_id) for p in data.pairs] == [
        ("test", group, f"{group}-{folder}-{a}~{group}-{folder}-{b}")
        for group, folder in (("FG3DCar", "002_003"), ("JODS", "Horse_01_02"), ("PASCAL", "bus_1_2"))
        for a, b in ((1, 2), (2, 1))
    ]
    assert [image.category for image in data.images] == ["car", "car", "horse", "horse", "bus", "bus"]
    assert data.listed == {"test": 8}
    (note,) = data.left_out
    assert (note.id, note.message) == ("FG3DCar/001_005", "its flow is to the mirrored image")
    first, second = data.images[:2]
    assert first.path == str(root / "FG3DCar" / "002_003" / "image1.png")
    assert second.mask_path == str(root / "FG3DCar" / "002_003" / "mask2.png")
    assert first.bbox.tolist() == [10, 10, 40, 30]
    assert second.bbox.tolist() == [14, 8, 44, 28]


def test_points_lie_on_the_object_and_move_with_it(root: Path) -> None:
    data = read_tss(root, categories=("bus",))
    ids, here, there = common_keypoints(*data.images)
    assert np.allclose(there - here, [4, -2])
    assert ((here > [10, 10]) & (here < [40, 30])).all()
    # A cell is 2 pixels of the first image, so the 30 x 20 pixels of the object have 15 x 10 cells; the second adds its own.
    from_first = here[(np.floor(here) % 2 == np.floor(here[0]) % 2).all(axis=1)]
    assert len(ids) > len(from_first) >= 150
    assert (here % 1 == 0.5).all()


def test_a_second_reading_is_the_same(root: Path) -> None:
    for one, other in zip(read_tss(root).images, read_tss(root).images, strict=True):
        np.testing.assert_array_equal(one.keypoint_xy, other.keypoint_xy)


def test_sampling() -> None:
    """Against every pixel in turn; 60 pixels over 30 cells, so each cell's centre is a pixel's corner, and its lower right pixel counts."""
    draw = np.random.default_rng(0)
    flow = draw.normal(0, 30, (60, 60, 2)).astype(np.float32)
    flow[30, 31] = flow[31, 31] = 2e9
    flow[33, 33] = np.nan
    mask = draw.random((60, 60)) < 0.5
    mask[33, 33] = mask[31, 31] = mask[1, 1] = True
    flow[1, 1] = 0
    expected = []
    for y in range(1, 60, 2):
        for x in range(1, 60, 2):
            to = np.array([x + 0.5, y + 0.5]) + flow[y, x]
            if mask[y, x] and np.abs(flow[y, x]).max() < 1e9 and (to >= 0).all() and to[0] <= 50 and to[1] <= 40:
                expected.append([x + 0.5, y + 0.5, *to])
    found = sample_flow(flow, mask, (50, 40))
    assert sorted(found.tolist()) == sorted(np.array(expected).tolist())
    assert [1.5, 1.5, 1.5, 1.5] in found.tolist()
    assert len(sample_flow(flow, np.zeros((60, 60), bool), (50, 40))) == 0


def test_small_images_give_each_pixel_once() -> None:
    points = sample_flow(np.zeros((6, 9, 2), np.float32), np.ones((6, 9), bool), (9, 6))
    assert len(points) == 54 == len(np.unique(points, axis=0))


def test_flow_files(tmp_path: Path) -> None:
    flow = np.random.default_rng(0).normal(size=(5, 7, 2)).astype(np.float32)
    path = tmp_path / "a.flo"
    write_flow(path, flow)
    np.testing.assert_array_equal(read_flow(path), flow)
    assert path.read_bytes()[:4] == b"PIEH"
    good = path.read_bytes()
    for data, reason in (
        (b"", "not a .flo file"),
        (b"PIEI" + good[4:], "not a .flo file"),
        (good[:10], "not a .flo file"),
        (good[:-1], "take 292"),
        (good + b"x", "take 292"),
        (good[:4] + np.array([-7, 5], "<i4").tobytes() + good[12:], "flow of -7 x 5"),
        (good[:4] + np.array([2**30, 2**30], "<i4").tobytes() + good[12:], "flow of 1073741824"),
    ):
        path.write_bytes(data)
        with pytest.raises(InputError, match=rf"a\.flo: .*{reason}"):
            read_flow(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_flow(tmp_path)


def test_damage_is_named(root: Path) -> None:
    bus = root / "PASCAL" / "bus_1_2"
    (bus / "flip_gt.txt").write_text("yes")
    with pytest.raises(InputError, match=r"flip_gt\.txt: expected 0 or 1, got b'yes'"):
        read_tss(root)
    (bus / "flip_gt.txt").write_text("0\n")
    good = Image.open(bus / "mask1.png").copy()
    for mask, reason in ((Image.new("L", (60, 40)), "empty"), (Image.new("L", (10, 90), 255), "pixels, its photo 60 x 40")):
        mask.save(bus / "mask1.png")
        with pytest.raises(InputError, match=rf"mask1\.png: .*{reason}"):
            read_tss(root)
    good.convert("RGB").save(bus / "mask1.png")
    assert len(read_tss(root).pairs) == 6
    for side, size in ((1, (40, 60)), (2, (44, 64))):
        write_flow(bus / f"flow{side}.flo", np.full((*size, 2), 2e9, np.float32))
    with pytest.raises(InputError, match="flow is known nowhere"):
        read_tss(root)
    (bus / "mask2.png").unlink()
    (bus / "flow1.flo").unlink()
    with pytest.raises(InputError, match=r"2 of 24 files of TSS are missing: .*flow1\.flo, .*mask2\.png; unpack"):
        read_tss(root)


def test_folders_and_arguments(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(InputError, match="none of the folders FG3DCar, JODS, PASCAL"):
        read_tss(empty)
    (empty / "TSS_CVPR2016").symlink_to(root)
    assert len(read_tss(empty).pairs) == 6
    assert read_tss(root, splits=("trn", "val")).images == []
    with pytest.raises(InputError, match="no annotations of cow; there are bus, car, horse"):
        read_tss(root, categories=("cow",))
    write_tss(root, "PASCAL/01_02")
    with pytest.raises(InputError, match="does not begin with a category"):
        read_tss(root)
