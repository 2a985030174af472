"""What is said about a whole copy of a data set, and about each way in which a copy can be broken."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from dataset_copies import ap10k_entry, spair_image, spair_layout, spair_pair, write_ap10k, write_photo, write_tss

from sc3d.datasets import registry
from sc3d.datasets.check import CopyCheck, check_dataset
from sc3d.datasets.sources import SOURCES
from sc3d.errors import ConfigError

CATEGORIES = ("cat", "dog")
PAIRS = {"trn": ("a", "b"), "val": ("c", "d"), "test": ("e", "f")}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole copy of a data set of 2 categories, 12 images and 12 pairs, which SPair-71k is taken to be."""
    root = tmp_path / "SPair-71k"
    for split, (first, second) in PAIRS.items():
        names = [f"{i:06d}-{pair}:{c}" for i, c in enumerate(CATEGORIES) for pair in (f"{first}-{second}", f"{second}-{first}")]
        spair_layout(root, split, names)
        spair_layout(root, split, names[:1], size="small")
        for name in names:
            spair_pair(root, split, name)
        for category in CATEGORIES:
            for stem in (first, second):
                spair_image(root, category, stem)
                write_photo(root / "JPEGImages" / category / f"{stem}.jpg")
    (root / "Segmentation").mkdir()
    whole = registry.dataset_of("spair")
    small = dataclasses.replace(
        SOURCES["spair"],
        pairs={"large": dict.fromkeys(PAIRS, 4), "small": dict.fromkeys(PAIRS, 1)},
        images=12,
        categories=CATEGORIES,
    )
    monkeypatch.setitem(registry.DATASETS, "spair", dataclasses.replace(whole, source=small))
    return root


def errors(found: CopyCheck) -> list[str]:
    return [problem.message for problem in found.problems if problem.fatal]


def notes(found: CopyCheck) -> list[str]:
    return [problem.message for problem in found.problems if not problem.fatal]


def test_official_numbers() -> None:
    """As SPair-71k's README states them; 100 images of each of 18 categories."""
    spair = SOURCES["spair"]
    assert spair.pairs["large"] == {"trn": 53_340, "val": 5_384, "test": 12_234}
    assert spair.pairs["small"] == {"trn": 10_652, "val": 1_070, "test": 2_438}
    assert spair.images == 1_800 == 100 * len(spair.categories)
    # Lines of NCNet's lists, and rows of CNNGeometric's.
    assert SOURCES["pf-pascal"].pairs[""] == {"trn": 2_940, "val": 308, "test": 299}
    assert SOURCES["pf-willow"].pairs[""] == {"test": 900}


def test_a_whole_copy(root: Path) -> None:
    seen = []
    found = check_dataset("spair", root, progress=lambda done, total: seen.append((done, total)))
    assert found.problems == []
    assert found.usable
    assert {count.what: (count.found, count.expected) for count in found.counts} == {
        "pairs listed for trn": (4, 4), "pairs listed for val": (4, 4), "pairs listed for test": (4, 4),
        "different pairs": (12, None), "images that they name": (12, None), "categories": (2, None), "annotated images": (12, 12),
    }  # fmt: skip
    assert seen == [(i, 12) for i in range(1, 13)]


def test_the_small_layout(root: Path) -> None:
    found = check_dataset("spair", root, "small")
    assert [count.found for count in found.counts[:3]] == [1, 1, 1]
    # Its pairs are of one category alone here.
    assert errors(found) == ["no pairs of 1 of 2 categories: dog"]


def test_the_real_numbers_are_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = check_dataset("spair", root)
    assert not found.usable
    (missing, apart) = errors(found)
    assert missing.startswith("no pairs of 16 of 18 categories: aeroplane, bicycle")
    assert apart == (
        "the copy is not whole: pairs listed for trn 4 instead of 53,340; pairs listed for val 4 instead of 5,384; "
        "pairs listed for test 4 instead of 12,234; annotated images 12 instead of 1,800"
    )


def test_photos_that_are_missing_cut_short_or_empty(root: Path) -> None:
    photos = root / "JPEGImages" / "cat"
    for stem in "abcde":
        (photos / f"{stem}.jpg").unlink()
    found = check_dataset("spair", root)
    (message,) = errors(found)
    assert message.startswith("5 of 12 photos are missing: ")
    assert message.endswith(f"{photos / 'a.jpg'}, {photos / 'b.jpg'}, {photos / 'c.jpg'} and 2 more")
    dogs = root / "JPEGImages" / "dog"
    data = (dogs / "a.jpg").read_bytes()
    (dogs / "a.jpg").write_bytes(data[: len(data) // 2])
    (dogs / "b.jpg").write_bytes(b"")
    (dogs / "c.jpg").write_bytes(b"<html>not found</html>")
    (message,) = errors(check_dataset("spair", root))[1:]
    assert message.startswith("3 of 12 photos cannot be read: ")
    assert "a.jpg: the image is truncated" in message
    assert "b.jpg: the file is empty" in message
    assert "c.jpg: not an image" in message
    quick = errors(check_dataset("spair", root, decode=False))
    assert [line.split(":")[0] for line in quick] == ["5 of 12 photos are missing", "1 of 12 photos cannot be read"]


def test_a_missing_category(root: Path) -> None:
    for split in PAIRS:
        layout = root / "Layout" / "large" / f"{split}.txt"
        layout.write_text("".join(line + "\n" for line in layout.read_text().split() if line.endswith(":cat")))
    found = check_dataset("spair", root)
    assert errors(found) == [
        "no pairs of 1 of 2 categories: dog",
        "the copy is not whole: pairs listed for trn 2 instead of 4; pairs listed for val 2 instead of 4; "
        "pairs listed for test 2 instead of 4",
    ]
    assert notes(found)[0].startswith("PairAnnotation/trn holds 2 pairs that Layout does not list: 000001-a-b:dog, 000001-b-a:dog")


def test_a_layout_that_does_not_fit(root: Path) -> None:
    spair_layout(root, "val", ["000007-c-d:cat", "000000-c-d:cat", "000000-d-c:cat", "000001-c-d:dog"])
    found = check_dataset("spair", root)
    assert errors(found) == ["1 pairs of Layout/large/val.txt have no file in PairAnnotation/val: 000007-c-d:cat"]
    spair_layout(root, "val", ["000007-c-nobody:cat"])
    assert any("names the image 'nobody'" in message for message in errors(check_dataset("spair", root)))
    spair_layout(root, "val", ["c and d"])
    assert any("val.txt, line 1: 'c and d' is not a pair's name" in message for message in errors(check_dataset("spair", root)))
    (root / "Layout" / "large" / "val.txt").unlink()
    assert any("val.txt: no such file" in message for message in errors(check_dataset("spair", root)))


def test_colons_that_were_replaced(root: Path) -> None:
    for path in list((root / "PairAnnotation" / "test").iterdir()):
        path.rename(path.with_name(path.name.replace(":", "_")))
    (message,) = errors(check_dataset("spair", root))
    assert message.startswith("4 pairs of Layout/large/test.txt have no file in PairAnnotation/test: 000000-e-f:cat")
    assert message.endswith("4 files there have no colon in their names: unpack on Linux or macOS")


def test_what_does_not_stop_an_evaluation_is_a_note(root: Path) -> None:
    (root / "Segmentation").rmdir()
    write_photo(root / "JPEGImages" / "cat" / "extra.jpg")
    spair_image(root, "cat", "e", kps={"0": [39, 400]})
    spair_image(root, "cat", "f", kps={"1": [39, 20]})
    found = check_dataset("spair", root)
    assert found.usable
    one, two, three, four = notes(found)
    assert one == "1 photos have no annotation: cat/extra"
    assert two.endswith("no folder Segmentation; masks will be computed")
    assert three == "1 images have a keypoint or a box that is partly outside of the photo: cat-e"
    assert four.endswith("they are left out of averages: cat-e~cat-f, cat-f~cat-e")


def test_damaged_annotations_are_fatal(root: Path) -> None:
    path = root / "ImageAnnotation" / "cat" / "a.json"
    path.write_text('{"kps": {"0"')
    (message,) = [m for m in errors(check_dataset("spair", root)) if "JSON" in m]
    assert str(path) in message


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    for kind in SOURCES:
        found = check_dataset(kind, tmp_path / "nowhere")
        assert errors(found) == [f"{tmp_path / 'nowhere'}: no such folder"]
        assert found.get == SOURCES[kind].get
        assert not check_dataset(kind, tmp_path).usable
    for arguments, reason in (
        (("toys", tmp_path), "toys has no source.*; these have one: spair, spair-u, ap10k"),
        (("spare", tmp_path), r"no data set named 'spare' \(did you mean spair"),
        (("spair", tmp_path, "huge"), "must be one of large, small"),
    ):
        with pytest.raises(ConfigError, match=reason):
            check_dataset(*arguments)


def test_other_data_sets(tmp_path: Path, root: Path) -> None:
    animals = write_ap10k(tmp_path / "ap-10k", {("Felidae", "cat"): [ap10k_entry(i) for i in range(1, 4)]}, crowds=(3,))
    for i in (1, 2):
        write_photo(animals / "data" / f"{i:012d}.jpg", (40, 60))
    found = check_dataset("ap10k", animals)
    assert found.usable
    assert notes(found) == ["1 images or pairs are left out, as the protocol has it (1: listed in ap-10k_is_crowd.txt)"]
    assert {c.what: c.found for c in found.counts}["different pairs"] == 1
    write_tss(tmp_path / "tss", "FG3DCar/1", mirrored=True)
    write_tss(tmp_path / "tss", "FG3DCar/2")
    found = check_dataset("tss", tmp_path / "tss")
    assert errors(found) == ["the copy is not whole: pairs listed for test 4 instead of 800"]
    assert notes(found) == ["1 images or pairs are left out, as the protocol has it (1: its flow is to the mirrored image)"]
    spair_image(root, "cat", "e", "ExtraImageAnnotation")
    spair_image(root, "cat", "f", "ExtraImageAnnotation")
    spair_pair(root, "test", "000001-e-f:cat", "ExtraPairAnnotation")
    assert check_dataset("spair-u", root).problems == []
    json.dumps([problem.message for problem in found.problems])
