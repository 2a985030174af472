"""PF-PASCAL and PF-WILLOW: lists with points, points from .mat files, photos shared by splits, and damaged lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from sc3d.datasets.content import PairKeypoints
from sc3d.datasets.proposal_flow import read_pf_pascal, read_pf_willow
from sc3d.errors import InputError
from sc3d.evaluation.pck import common_keypoints

HEADER = "source_image,target_image,class,XA,YA,XB,YB"
FOLDER = "PF-dataset-PASCAL/JPEGImages"


def line(source: str, target: str, category: int, points: Sequence[Sequence[float]]) -> str:
    columns = [";".join(str(v) for v in column) for column in zip(*points, strict=True)] if points else [""] * 4
    return ",".join([f"{FOLDER}/{source}.jpg", f"{FOLDER}/{target}.jpg", str(category), *columns])


def write_list(path: Path, *lines: str, end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(end.join([*lines, ""]).encode())
    return path


def write_mat(root: Path, category: str, photo: str, kps: object, **others: object) -> Path:
    path = root / "Annotations" / category / f"{photo}.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"kps": kps, **others})
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Class 1 is aeroplane, 7 car. Photo b is in a pair of each split."""
    root = tmp_path / "PF-dataset-PASCAL"
    (root / "JPEGImages").mkdir(parents=True)
    nan = np.nan
    write_mat(root, "aeroplane", "a", [[1, 2], [nan, nan], [5, 6], [7, 8]], bbox=np.array([[1, 2, 30, 20.0]]))
    write_mat(root, "aeroplane", "b", [[10, 20], [30, 40], [nan, nan], [70, 80]])
    write_mat(root, "aeroplane", "d", [[nan, nan], [1, 1], [nan, nan], [nan, nan]])
    rows = ("a,b,1,0", "a,b,1,1", "b,a,1,0", "b,c,1,0", "a,d,1,0")
    write_mat(root, "aeroplane", "c", [[0, 1], [2, 3], [4, 5], [6, 7]])
    lines = (f"{FOLDER}/{r.split(',')[0]}.jpg,{FOLDER}/{r.split(',')[1]}.jpg,{r[4:]}" for r in rows)
    write_list(root / "train_pairs_pf_pascal.csv", "source_image,target_image,class,flip", *lines)
    write_list(root / "val_pairs_pf_pascal.csv", HEADER, line("b", "e", 1, [(1, 2, 3, 4), (5, 6, 7, 8)]))
    write_list(
        root / "test_pairs_pf_pascal.csv", HEADER,
        line("b", "c", 1, [(10.5, 20, 0, 1), (30, 40, 2, 3.25)]),
        line("c", "b", 1, [(2, 3.25, 30, 40), (0, 1, 10.5, 20)]),
        line("b", "f", 7, [(9, 9, 8, 8)]),
    )  # fmt: skip
    return root


def points_of(data, name: str) -> list[list[float]]:
    images = {image.image_id: image for image in data.images}
    source, target = name.split("~")
    _, first, second = common_keypoints(images[source], images[target])
    return sorted(np.concatenate([first, second], axis=1).tolist())


def test_pairs_and_their_own_points(root: Path) -> None:
    data = read_pf_pascal(root)
    assert [(p.split, p.category, p.pair_id) for p in data.pairs] == [
        ("trn", "aeroplane", "aeroplane-a~aeroplane-b"),
        ("trn", "aeroplane", "aeroplane-b~aeroplane-a"),
        ("val", "aeroplane", "aeroplane-b~aeroplane-e"),
        ("test", "aeroplane", "aeroplane-b~aeroplane-c"),
        ("test", "aeroplane", "aeroplane-c~aeroplane-b"),
        ("test", "car", "car-b~car-f"),
    ]
    assert data.listed == {"trn": 5, "val": 1, "test": 3}
    # Those of the .mat files that neither photo lacks; b and c have those of the test list, not of the files.
    assert points_of(data, "aeroplane-a~aeroplane-b") == [[1, 2, 10, 20], [7, 8, 70, 80]]
    assert points_of(data, "aeroplane-b~aeroplane-a") == [[10, 20, 1, 2], [70, 80, 7, 8]]
    assert points_of(data, "aeroplane-b~aeroplane-c") == [[10.5, 20, 0, 1], [30, 40, 2, 3.25]]
    assert points_of(data, "aeroplane-c~aeroplane-b") == [[0, 1, 10.5, 20], [2, 3.25, 30, 40]]
    assert points_of(data, "aeroplane-b~aeroplane-e") == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert points_of(data, "car-b~car-f") == [[9, 9, 8, 8]]


def test_an_image_is_of_its_most_held_out_split(root: Path) -> None:
    images = {image.image_id: image for image in read_pf_pascal(root).images}
    assert {name: image.split for name, image in images.items()} == {
        "aeroplane-a": "trn", "aeroplane-b": "test", "aeroplane-c": "test", "aeroplane-e": "val", "car-b": "test", "car-f": "test",
    }  # fmt: skip
    assert images["car-b"].path == images["aeroplane-b"].path == str(root / "JPEGImages" / "b.jpg")
    assert images["aeroplane-a"].bbox.tolist() == [1, 2, 30, 20]
    assert images["aeroplane-b"].bbox is None


def test_what_does_not_count_is_said(root: Path) -> None:
    notes = {note.id: note.message for note in read_pf_pascal(root).left_out}
    assert notes.keys() == {"aeroplane-a~aeroplane-d", "aeroplane-b~aeroplane-c"}
    assert "no keypoint is visible in both" in notes["aeroplane-a~aeroplane-d"]
    assert "train_pairs_pf_pascal.csv, line 5: also listed for test" in notes["aeroplane-b~aeroplane-c"]


def test_lists_and_roots_may_lie_elsewhere(root: Path) -> None:
    expected = [p.pair_id for p in read_pf_pascal(root).pairs]
    for old, new in (("train", "train_pairs.csv"), ("val", "val_pairs.csv"), ("test", "test_pairs.csv")):
        path = root.parent / "image_pairs" / new
        path.parent.mkdir(exist_ok=True)
        (root / f"{old}_pairs_pf_pascal.csv").rename(path)
    assert [p.pair_id for p in read_pf_pascal(root).pairs] == expected
    assert [p.pair_id for p in read_pf_pascal(root.parent).pairs] == expected


def test_splits_without_a_list_are_passed_over(root: Path) -> None:
    (root / "train_pairs_pf_pascal.csv").unlink()
    assert {p.split for p in read_pf_pascal(root).pairs} == {"val", "test"}
    with pytest.raises(InputError, match=r"no list of pairs train_pairs_pf_pascal\.csv or train_pairs\.csv"):
        read_pf_pascal(root, splits=("trn",))
    for path in root.glob("*.csv"):
        path.unlink()
    with pytest.raises(InputError, match="no list of pairs"):
        read_pf_pascal(root)
    with pytest.raises(InputError, match="no folder JPEGImages"):
        read_pf_pascal(root / "Annotations")


def test_windows_lists_with_a_byte_order_mark(root: Path) -> None:
    path = root / "val_pairs_pf_pascal.csv"
    text = path.read_text().replace("PF-dataset-PASCAL/JPEGImages/", "PF-dataset-PASCAL\\JPEGImages\\")
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() + b"\r\n")
    (pair,) = read_pf_pascal(root, splits=("val",)).pairs
    assert pair.pair_id == "aeroplane-b~aeroplane-e"


def test_categories(root: Path) -> None:
    assert [p.pair_id for p in read_pf_pascal(root, categories=("car",)).pairs] == ["car-b~car-f"]
    with pytest.raises(InputError, match="no annotations of mug"):
        read_pf_pascal(root, categories=("mug",))


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ((), "is empty"),
        (("source_image,target_image,XA,YA,XB,YB", "a.jpg,b.jpg,1,1,1,1"), "no column class; there are source_image"),
        (("source_image,target_image,class,XA,YA,XB", "a.jpg,b.jpg,1,1,1,1"), "no column YB"),
        ((HEADER, "a.jpg,b.jpg,1,1"), "line 2: 4 fields under 7 columns"),
        ((HEADER, "a.jpg,b.jpg,21,1,1,1,1"), "class '21', expected 1 to 20"),
        ((HEADER, "a.jpg,b.jpg,cat,1,1,1,1"), "class 'cat', expected"),
        ((HEADER, "a.jpg,b.jpg,1,1;2,1,1;2,1;2"), "as many numbers"),
        ((HEADER, "a.jpg,b.jpg,1,1;x,1;2,1;2,1;2"), "as many numbers"),
        ((HEADER, "a.jpg,b.jpg,1,1;nan,1;2,1;2,1;2"), "finite numbers"),
        ((HEADER, "a.jpg,b.jpg,1,1;1e30,1;2,1;2,1;2"), "line 2: points more than 10,000,000 pixels away"),
        ((HEADER, "a.jpg,a.jpg,1,1,1,1,1"), "a pair of aeroplane-a with itself"),
        ((HEADER, "JPEGImages,b.jpg,1,1,1,1,1"), "is not the name of a photo"),
        ((HEADER, "a.jpg,b.jpg,1,1,1,1,1", "b.jpg,a.jpg,1,1,1,2,1"), "line 3: lists other points of aeroplane-a and aeroplane-b"),
        ((HEADER, "a.jpg,b.jpg,1,1,1,1,1", "a.png,c.jpg,1,1,1,2,1"), "two photos are both called aeroplane-a"),
    ],
)
def test_malformed_lists_are_named(root: Path, lines: tuple[str, ...], reason: str) -> None:
    path = root / "test_pairs_pf_pascal.csv"
    path.write_text("".join(f"{one}\n" for one in lines))
    with pytest.raises(InputError, match=rf"test_pairs_pf_pascal\.csv.*{reason}"):
        read_pf_pascal(root, splits=("test",))


def test_unreadable_lists_are_named(root: Path) -> None:
    (root / "test_pairs_pf_pascal.csv").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(InputError, match="cannot be read as CSV"):
        read_pf_pascal(root)


def test_malformed_annotations_are_named(root: Path) -> None:
    path = root / "Annotations" / "aeroplane" / "a.mat"
    for kps, reason in (
        (np.ones((4, 3)), r"a\.mat: kps of shape \(4, 3\)"),
        (np.ones((3, 2)), "3 and 4 keypoints"),
        ("text", r"a\.mat: has no array of real numbers called kps"),
        (np.full((4, 2), np.inf), r"a\.mat: kps of shape .*NaN where not visible"),
        (np.array([[1, "a"], [2.5, 2]], object), r"a\.mat: has no array of real numbers called kps"),
        (np.ones((4, 2)) + 1j, r"a\.mat: has no array of real numbers called kps"),
        ({"kps": np.ones((4, 2))}, r"a\.mat: has no array of real numbers called kps"),
        (np.ones((20_000, 2)), r"a\.mat: kps of shape \(20000, 2\)|larger than"),
        (np.random.default_rng(0).random((40_000, 2)), r"a\.mat: the file of 0\.6 MB is larger than 0\.262144 MB"),
    ):
        write_mat(root, "aeroplane", "a", kps)
        with pytest.raises(InputError, match=reason):
            read_pf_pascal(root, splits=("trn",))
    savemat(path, {"other": 1})
    with pytest.raises(InputError, match=r"a\.mat: has no array of real numbers called kps"):
        read_pf_pascal(root, splits=("trn",))
    for box, reason in (([1, 2, 3], "4 finite numbers"), ([3, 3, 3, 9], "is empty")):
        write_mat(root, "aeroplane", "a", np.ones((4, 2)), bbox=np.array(box, float))
        with pytest.raises(InputError, match=rf"a\.mat: .*{reason}"):
            read_pf_pascal(root, splits=("trn",))
    path.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(50))
    with pytest.raises(InputError, match=r"a\.mat: cannot be read as a MATLAB file"):
        read_pf_pascal(root, splits=("trn",))
    path.unlink()
    with pytest.raises(InputError, match=r"line 2: gives no points, and .*a\.mat is missing"):
        read_pf_pascal(root, splits=("trn",))


WILLOW = ",".join(["imageA", "imageB", *(f"{xy}{side}{i}" for side in "AB" for xy in "XY" for i in range(10))])


def willow_line(first: str, second: str, start: float = 0) -> str:
    # x of the first photo 0 .. 9, its y 100 .. 109, x of the second 200 .., its y 300 ..
    return ",".join(
        [f"PF-dataset/{first}", f"PF-dataset/{second}", *(str(start + 100 * c + i) for c in range(4) for i in range(10))]
    )


@pytest.mark.parametrize("place", ["PF-dataset", ""])
def test_willow(tmp_path: Path, place: str) -> None:
    (tmp_path / "PF-dataset" / "car(G)").mkdir(parents=True)
    write_list(
        tmp_path / place / "test_pairs_pf.csv", WILLOW,
        willow_line("car(G)/one.png", "car(G)/two.png"), willow_line("winebottle(wC)/one.png", "winebottle(wC)/two.png", 5),
        end="\r\n",
    )  # fmt: skip
    data = read_pf_willow(tmp_path / place)
    assert [(p.split, p.category, p.pair_id) for p in data.pairs] == [
        ("test", "car", "car-car_G__one~car-car_G__two"),
        ("test", "winebottle", "winebottle-winebottle_wC__one~winebottle-winebottle_wC__two"),
    ]
    assert data.listed == {"test": 2}
    first, second = data.images[:2]
    assert first.path == str(tmp_path / "PF-dataset" / "car(G)" / "one.png")
    assert first.keypoint_xy.tolist() == [[i, 100 + i] for i in range(10)]
    assert second.keypoint_xy.tolist() == [[200 + i, 300 + i] for i in range(10)]
    assert first.bbox is None
    assert read_pf_willow(tmp_path, splits=("trn", "val")).pairs == []
    assert [i.category for i in read_pf_willow(tmp_path, categories=("car",)).images] == ["car", "car"]


def test_malformed_willow(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no list of pairs test_pairs_pf\.csv"):
        read_pf_willow(tmp_path)
    for row, reason in (
        ("a.png,b.png,1,2", "4 fields, expected two photos and 40 coordinates"),
        (willow_line("car(G)/one.png", "dog(S)/two.png"), "a pair shows one category"),
        (willow_line("(G)/one.png", "(G)/two.png"), "cannot be a category"),
        (willow_line("car(G)/one.png", "car(G)/two.png").replace("101", "x"), "as many numbers"),
    ):
        write_list(tmp_path / "test_pairs_pf.csv", WILLOW, row)
        with pytest.raises(InputError, match=rf"line 2: .*{reason}"):
            read_pf_willow(tmp_path)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(1, 5)), max_size=12))
def test_two_images_share_the_points_of_their_pair_alone(pairs: list[tuple[int, int, int]]) -> None:
    """Whatever other pairs the two are in."""
    book = PairKeypoints()
    listed: dict[tuple[str, str], np.ndarray] = {}
    for place, (a, b, count) in enumerate(pairs):
        key = (f"i{a}", f"i{b}")
        if a == b or key in listed or key[::-1] in listed:
            continue
        points = np.arange(4.0 * count).reshape(count, 4) + 1000 * place
        listed[key] = points
        book.add(key, points, "here")
        book.add(key[::-1], points[::-1, [2, 3, 0, 1]], "reversed")
    for (a, b), points in listed.items():
        (ids_a, xy_a), (ids_b, xy_b) = book.of(a), book.of(b)
        assert len(set(ids_a.tolist())) == len(ids_a)
        shared, mine, theirs = np.intersect1d(ids_a, ids_b, return_indices=True)
        assert len(shared) == len(points)
        assert sorted(np.concatenate([xy_a[mine], xy_b[theirs]], axis=1).tolist()) == points.tolist()
