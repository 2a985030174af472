"""AP-10K: the rules of its pairs on sets with a known answer, their frozen order, both layouts on disk, and damaged copies."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from dataset_copies import AP10K_FILES, ap10k_entry, write_ap10k, write_photo, write_prepared_ap10k

from sc3d.datasets.ap10k import read_ap10k
from sc3d.datasets.ap10k_pairs import Animal, draw_pairs, rank, splits_of
from sc3d.datasets.content import AnnotatedSet
from sc3d.errors import InputError

HORSE, ZEBRA, DONKEY = ("Equidae", "horse"), ("Equidae", "zebra"), ("Equidae", "king donkey")
CAT, DOG = ("Felidae", "cat"), ("Canidae", "dog")


def animals(first: int, count: int) -> list[dict]:
    return [ap10k_entry(first + i) for i in range(count)]


def counts(data: AnnotatedSet) -> dict[tuple[str, str], int]:
    return dict(Counter((pair.split, pair.category) for pair in data.pairs))


def visible(*numbers: int) -> tuple[int, ...]:
    return tuple(2 if i in numbers else 0 for i in range(17))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All keypoints visible everywhere, so that the rules alone decide. Splits (trn, val, test) in the comments."""
    species = {
        HORSE: animals(1000, 160),  # 110, 20, 30
        ZEBRA: animals(2000, 40),  # 0, 10, 30
        DONKEY: animals(3000, 55),  # 5, 20, 30
        CAT: animals(4000, 12),  # 0, 0, 12
        DOG: animals(5000, 60),  # 10, 20, 30
    }
    return write_ap10k(tmp_path_factory.mktemp("data") / "ap-10k", species)


def test_pairs_within_species(large: Path) -> None:
    data = read_ap10k(large)
    assert counts(data) == {
        ("trn", "horse"): 50 * 110, ("trn", "king donkey"): 10, ("trn", "dog"): 45,  # of 5,995; 5 over 2; 10 over 2
        ("val", "horse"): 190, ("val", "zebra"): 45, ("val", "king donkey"): 190, ("val", "dog"): 190,  # n over 2
        ("test", "horse"): 435, ("test", "zebra"): 435, ("test", "king donkey"): 435, ("test", "cat"): 66, ("test", "dog"): 435,
    }  # fmt: skip
    assert Counter(image.split for image in data.images) == {"trn": 125, "val": 70, "test": 132}
    horses = sorted((i for i in data.images if i.category == "horse"), key=lambda i: i.image_id)
    assert [i.split for i in horses] == ["trn"] * 110 + ["val"] * 20 + ["test"] * 30
    unordered = {frozenset((p.source_id, p.target_id)) for p in data.pairs}
    assert len(unordered) == len(data.pairs)
    split_of = {image.image_id: image.split for image in data.images}
    assert all(split_of[p.source_id] == split_of[p.target_id] == p.split for p in data.pairs)
    turned = [p for p in data.pairs if p.source_id > p.target_id]
    assert 0.45 < len(turned) / len(data.pairs) < 0.55
    assert data.listed == {"trn": 5555, "val": 615, "test": 1806}
    part = read_ap10k(large, paired=("val", "test"))
    assert [p.pair_id for p in part.pairs] == [p.pair_id for p in data.pairs if p.split != "trn"]
    assert [(i.image_id, i.split) for i in part.images] == [(i.image_id, i.split) for i in data.images]


def test_pairs_across_species(large: Path) -> None:
    data = read_ap10k(large, "cross-species")
    # Of 20 * 10 + 20 * 20 + 10 * 20 and of 3 * 30 * 30; the other families have one species.
    assert counts(data) == {("val", "Equidae"): 400, ("test", "Equidae"): 900}
    species = {image.image_id: image.category for image in data.images}
    kinds = Counter(frozenset((species[p.source_id], species[p.target_id])) for p in data.pairs if p.split == "test")
    assert len(kinds) == 3
    assert all(len(kind) == 2 and 250 < n < 350 for kind, n in kinds.items())
    assert {i.image_id: i.split for i in data.images} == {i.image_id: i.split for i in read_ap10k(large).images}


def test_pairs_across_families(large: Path) -> None:
    data = read_ap10k(large, "cross-family")
    assert counts(data) == {("val", "all"): 20, ("test", "all"): 90}
    family = {"horse": "E", "zebra": "E", "king donkey": "E", "cat": "F", "dog": "C"}
    species = {image.image_id: family[image.category] for image in data.images}
    kinds = Counter(frozenset((species[p.source_id], species[p.target_id])) for p in data.pairs if p.split == "test")
    assert kinds == {frozenset("EF"): 30, frozenset("EC"): 30, frozenset("FC"): 30}


def test_a_pair_needs_visible_keypoints(tmp_path: Path) -> None:
    """Against the rule written out, keypoint by keypoint."""
    draw = random.Random(1)
    seen = {i: tuple(draw.choice((0, 0, 1, 2)) for _ in range(17)) for i in range(1, 41)}
    seen[41], seen[42] = visible(0, 1, 2), visible(2, 3, 4)
    odd, even = ([ap10k_entry(i, v) for i, v in seen.items() if i % 2 == remainder] for remainder in (1, 0))
    write_ap10k(tmp_path / "a", {CAT: odd, DOG: even})

    def allowed(a: int, b: int) -> bool:
        return sum(x / 2 * y / 2 for x, y in zip(seen[a], seen[b], strict=True)) >= 3

    usable = [i for i, v in seen.items() if sum(x > 0 for x in v) >= 3]
    within = {frozenset(p) for p in itertools.combinations(usable, 2) if (p[0] - p[1]) % 2 == 0 and allowed(*p)}
    pairs = [p for p in read_ap10k(tmp_path / "a").pairs if p.split == "test"]
    found = [tuple(int(name.rsplit("-", 1)[1]) for name in (p.source_id, p.target_id)) for p in pairs]
    assert {frozenset(p) for p in found} == within
    assert len(found) == len(within) > 20
    across = {(a, b) for a in usable for b in usable if not a % 2 and b % 2 and allowed(a, b)}
    pairs = read_ap10k(tmp_path / "a", "cross-family", splits=("test",)).pairs
    assert {tuple(int(n.rsplit("-", 1)[1]) for n in (p.source_id, p.target_id)) for p in pairs} <= across
    assert len(pairs) == min(30, len(across))


@pytest.mark.parametrize("subset", ["intra-species", "cross-species", "cross-family"])
def test_pairs_do_not_depend_on_the_order_of_files(tmp_path: Path, subset: str) -> None:
    species = {HORSE: animals(1, 120), ZEBRA: animals(501, 60), CAT: animals(900, 40)}
    backwards = {key: list(reversed(species[key])) for key in (CAT, ZEBRA, HORSE)}
    reference = read_ap10k(write_ap10k(tmp_path / "a", species), subset)
    for name, other in (
        ("b", write_ap10k(tmp_path / "b", backwards, seed=7)),
        ("c", write_prepared_ap10k(tmp_path / "c", backwards, seed=3)),
        ("d", write_prepared_ap10k(tmp_path / "d", species, seed=4)),
    ):
        data = read_ap10k(other, subset)
        assert [vars(p) for p in data.pairs] == [vars(p) for p in reference.pairs], name
        assert [(i.image_id, i.split) for i in data.images] == [(i.image_id, i.split) for i in reference.images]


def test_the_draw_is_frozen(large: Path) -> None:
    """Whoever changes these has changed the benchmark: numbers before and after are of different pairs."""
    digests = {}
    for subset in ("intra-species", "cross-species", "cross-family"):
        names = "\n".join(f"{p.split} {p.category} {p.pair_id}" for p in read_ap10k(large, subset).pairs)
        digests[subset] = hashlib.sha256(names.encode()).hexdigest()[:16]
    assert digests == {
        "intra-species": "fc530ddc8cc36afb",
        "cross-species": "15c78fa5a7b75735",
        "cross-family": "1527b6e2039f1934",
    }
    # The first outputs of splitmix64 for seed 0, as its author's C code prints them: the mixer of 0 is the first one.
    assert int(rank(np.zeros(1, np.uint64), np.array([0xE220A8397B1DCDAF], np.uint64))[0]) == 0xE220A8397B1DCDAF


def test_drawing_does_not_depend_on_the_order_of_animals() -> None:
    members = [
        Animal(i, "Felidae", "cat", "", np.zeros(4), np.full((17, 3), 2.0), 17) for i in random.Random(0).sample(range(1, 200), 160)
    ]
    ascending = sorted(members, key=lambda animal: animal.image_id)
    split_of = splits_of(members)
    assert split_of == splits_of(ascending)
    pairs, expected = (list(draw_pairs(one, split_of, "intra-species", ("trn",))) for one in (members, ascending))
    assert pairs == expected
    assert len(pairs) == 50 * 110


def test_what_an_annotation_becomes(tmp_path: Path) -> None:
    hidden = (2, 1, 2, 0, 2, *(0,) * 12)
    root = write_ap10k(
        tmp_path / "x",
        {CAT: [ap10k_entry(7, hidden), ap10k_entry(8), ap10k_entry(9), ap10k_entry(10, visible(1, 2))]},
        crowds=(9, 777),
    )
    photo = write_photo(root / "data" / "000000000008.jpg")
    data = read_ap10k(root)
    first, second = data.images
    assert (first.image_id, first.category, first.split) == ("cat-000000000007", "cat", "test")
    assert first.keypoint_ids.tolist() == [0, 2, 4]  # 1 is hidden
    assert first.keypoint_xy.tolist() == [[1, 1], [3, 5], [5, 9]]
    assert first.bbox.tolist() == [2, 3, 32, 23]
    assert first.path == str(root / "JPEGImages" / "Felidae" / "cat" / "000000000007.jpg")
    assert second.path == str(photo)
    assert {note.id: note.message for note in data.left_out} == {
        "000000000009": "listed in ap-10k_is_crowd.txt",
        "000000000010": "2 keypoints, fewer than 3",
    }
    (pair,) = data.pairs
    assert {pair.source_id, pair.target_id} == {first.image_id, second.image_id}


def test_the_first_annotation_of_an_image_counts(tmp_path: Path) -> None:
    root = write_ap10k(tmp_path, {CAT: animals(1, 3)})
    for name in AP10K_FILES:
        path = root / "annotations" / name
        content = json.loads(path.read_text())
        for annotation in list(content["annotations"]):
            content["annotations"].append({**annotation, "bbox": [0, 0, 1, 1]})
        path.write_text(json.dumps(content))
    assert {tuple(image.bbox.tolist()) for image in read_ap10k(root).images} == {(2, 3, 32, 23)}


def test_files_merge_as_train_test_val(tmp_path: Path) -> None:
    root = write_ap10k(tmp_path, {CAT: [ap10k_entry(1), ap10k_entry(2)]})
    for place, name in enumerate(AP10K_FILES):
        path = root / "annotations" / name
        content = json.loads(path.read_text())
        content["annotations"] = [{**ap10k_entry(1, bbox=[0, 0, 5 + place, 1]), "category_id": 1}] if place else []
        content["images"] = [{"id": 1, "file_name": "000000000001.jpg"}]
        path.write_text(json.dumps(content))
    (image,) = read_ap10k(root).images
    assert image.bbox.tolist() == [0, 0, 6, 1]


def test_prepared_pairs_are_read_as_they_are(tmp_path: Path) -> None:
    species = {HORSE: animals(1, 4), ZEBRA: animals(5, 4), CAT: animals(9, 4)}
    root = write_prepared_ap10k(tmp_path, species)
    (root / "ap-10k_is_crowd.txt").unlink()
    for folder, name in (
        ("trn", "000000000002-000000000001:horse"), ("test", "000000000004-000000000003:horse"),
        ("test", "000000000009-000000000010:cat"), ("val_cross_species", "000000000005-000000000001:Equidae"),
        ("test_cross_species", "000000000003-000000000007:Equidae"), ("test_cross_family", "000000000010-000000000003:all"),
    ):  # fmt: skip
        path = root / "PairAnnotation" / folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"src_json_path": "data/ap-10k/..", "trg_json_path": ".."}))
    data = read_ap10k(root)
    assert [(p.split, p.category, p.source_id, p.target_id) for p in data.pairs] == [
        ("trn", "horse", "horse-000000000002", "horse-000000000001"),
        ("test", "cat", "cat-000000000009", "cat-000000000010"),
        ("test", "horse", "horse-000000000004", "horse-000000000003"),
    ]
    assert {i.image_id[-2:]: i.split for i in data.images} == {
        "01": "trn", "02": "trn", "03": "test", "04": "test", "09": "test", "10": "test",
    }  # fmt: skip
    family = read_ap10k(root, "cross-family")
    assert [(p.split, p.category, p.pair_id) for p in family.pairs] == [("test", "all", "cat-000000000010~horse-000000000003")]
    assert [(p.split, p.pair_id) for p in read_ap10k(root, categories=("cat",)).pairs] == [
        ("test", "cat-000000000009~cat-000000000010")
    ]
    with pytest.raises(InputError, match="image 000000000001 is in a pair of val and in one of trn"):
        read_ap10k(root, "cross-species")


def test_prepared_pairs_that_cannot_be(tmp_path: Path) -> None:
    root = write_prepared_ap10k(tmp_path, {HORSE: animals(1, 4)})
    folder = root / "PairAnnotation" / "test"
    folder.mkdir(parents=True)
    with pytest.raises(InputError, match="no pairs of the subset intra-species"):
        read_ap10k(root)
    (folder / "000000000001-000000000002_horse.json").write_text("{}")
    with pytest.raises(InputError, match=r"is not <source>-<target>.*colon replaced"):
        read_ap10k(root)
    (folder / "000000000001-000000000002_horse.json").rename(folder / "000000000001-000000000099:horse.json")
    with pytest.raises(InputError, match="without a usable annotation: 99"):
        read_ap10k(root)
    with pytest.raises(InputError, match="no pairs of the subset cross-species"):
        read_ap10k(root, "cross-species")


def test_one_image_in_two_folders_is_refused(tmp_path: Path) -> None:
    root = write_prepared_ap10k(tmp_path, {HORSE: animals(1, 2), CAT: animals(1, 1)})
    with pytest.raises(InputError, match=r"image 000000000001 is a .* and a .*"):
        read_ap10k(root)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"keypoints": [1, 2, 2]}, r"keypoints: .*at least 51"),
        ({"keypoints": [[1, 2, 2]] * 17}, r"keypoints\.0: .*number"),
        ({"keypoints": None}, "keypoints: .*array"),
        ({"keypoints": [1, 2, 3] * 17}, "expected 0, 1 or 2"),
        ({"keypoints": [float("nan"), 2, 2] * 17}, r"keypoints\.0: .*finite number"),
        ({"bbox": [1, 2, 3]}, r"bbox\.3: Field required"),
        ({"bbox": [1, 2, 1e300, 4]}, r"bbox\.2: .*less than"),
        ({"bbox": [1, 2, 0, 4]}, "empty box"),
        ({"bbox": [1, 2, 1e-12, 4]}, "empty box"),
        ({"num_keypoints": "many"}, "num_keypoints: .*integer"),
        ({"num_keypoints": 10**30}, "num_keypoints: .*less than"),
    ],
)
def test_malformed_annotations_are_named(tmp_path: Path, changes: dict, reason: str) -> None:
    root = write_ap10k(tmp_path / "a", {CAT: [ap10k_entry(1), ap10k_entry(2, **changes)]})
    where = r"image 2: not an annotation of AP-10K|-split1\.json: not COCO's layout of AP-10K"
    with pytest.raises(InputError, match=rf"({where}) \((annotations\.\d\.)?.*{reason}"):
        read_ap10k(root)
    root = write_prepared_ap10k(tmp_path / "b", {CAT: [ap10k_entry(1), ap10k_entry(2, **changes)]})
    with pytest.raises(InputError, match=rf"000000000002\.json: not an (image )?annotation of AP-10K \(.*{reason}"):
        read_ap10k(root)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a folder annotations nor ImageAnnotation"):
        read_ap10k(tmp_path)
    root = write_ap10k(tmp_path / "a", {CAT: animals(1, 3)})
    crowds = root / "ap-10k_is_crowd.txt"
    crowds.write_text("no numbers")
    with pytest.raises(InputError, match="one image id a line"):
        read_ap10k(root)
    crowds.unlink()
    with pytest.raises(InputError, match=r"no ap-10k_is_crowd\.txt.*GeoAware-SC"):
        read_ap10k(root)
    (tmp_path / "ap-10k_is_crowd.txt").write_text("000000000001\n")
    assert len(read_ap10k(root).images) == 2
    path = root / "annotations" / AP10K_FILES[2]
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "annotations": [{**ap10k_entry(77), "category_id": 1}]}))
    with pytest.raises(InputError, match="not listed: 77"):
        read_ap10k(root)
    for broken, field in (
        ({**content, "images": 3}, "images: "),
        ([], "Input should be an object"),
        ({**content, "annotations": [1]}, r"annotations\.0: "),
        ({**content, "categories": [{"id": 1, "name": "a"}]}, r"categories\.0\.supercategory: Field required"),
    ):
        path.write_text(json.dumps(broken))
        with pytest.raises(InputError, match=rf"val-split1\.json: not COCO's layout of AP-10K \({field}"):
            read_ap10k(root)
    path.write_text('{"images": [')
    with pytest.raises(InputError, match=r"val-split1\.json: cannot be read as JSON"):
        read_ap10k(root)
    path.unlink()
    with pytest.raises(InputError, match=r"val-split1\.json: no such file"):
        read_ap10k(root)


def test_arguments_are_checked(large: Path) -> None:
    for arguments, reason in (
        ({"subset": "cross-planet"}, "subset must be one of intra-species"),
        ({"splits": ("train",)}, "splits must be"),
        ({"categories": ("cow",)}, "no annotations of cow; there are cat, dog"),
    ):
        with pytest.raises(InputError, match=reason):
            read_ap10k(large, **arguments)
    whole = {p.pair_id for p in read_ap10k(large, "cross-species").pairs}
    some = read_ap10k(large, "cross-species", splits=("test",), categories=("horse", "zebra"))
    assert {p.pair_id for p in some.pairs} < whole
    assert {i.category for i in some.images} == {"horse", "zebra"}
