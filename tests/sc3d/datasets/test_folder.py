"""Any folder of photos as a dataset."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sc3d.datasets.folder import list_folder, read_folder
from sc3d.errors import InputError
from sc3d.images import EXTENSIONS
from sc3d.records import check_id


def put(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(path, format="PNG")
    return root


def names(records, root):
    return [os.path.relpath(r.path, root) for r in records]


def test_sub_folders_name_the_categories(tmp_path):
    put(tmp_path, "bus/b.jpg", "bus/deep/a.png", "wild cat/c.JPEG")
    records = read_folder(tmp_path)
    assert [(os.path.relpath(r.path, tmp_path), r.category) for r in records] == [
        ("bus/b.jpg", "bus"),
        ("bus/deep/a.png", "bus"),
        ("wild cat/c.JPEG", "wild cat"),
    ]
    assert all(os.path.isabs(r.path) and r.split == "trn" and r.mask_path is None for r in records)


def test_one_category_for_all(tmp_path):
    put(tmp_path, "b.jpg", "x/a.png")
    assert [r.category for r in read_folder(str(tmp_path), "car")] == ["car", "car"]


def test_extensions_in_any_case_hidden_files_skipped(tmp_path):
    put(tmp_path, "a.JPG", "b.Tiff", "c.webp", ".d.jpg", ".git/e.jpg")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "folder.jpg").mkdir()
    assert names(read_folder(tmp_path, "car"), tmp_path) == ["a.JPG", "b.Tiff", "c.webp"]


def test_files_that_are_no_images_are_left_to_the_reject_stage(tmp_path):
    (tmp_path / "a.jpg").write_text("no image")
    assert len(read_folder(tmp_path, "car")) == 1


def test_two_files_with_one_stem_have_two_ids(tmp_path):
    put(tmp_path, "a.jpg", "a.png", "sub/a.jpg", "A.jpg")
    ids = [r.image_id for r in read_folder(tmp_path, "car")]
    assert len(set(ids)) == 4
    assert all(check_id(i) for i in ids)


def test_id_depends_on_the_relative_path_alone(tmp_path):
    first = read_folder(put(tmp_path / "one", "bus/a 1.jpg", "bus/b.jpg"))
    second = read_folder(put(tmp_path / "two", "bus/a 1.jpg"))
    assert first[0].image_id == second[0].image_id
    assert first[0].image_id.startswith("a-1-")


def test_path_with_spaces_and_unicode(tmp_path):
    put(tmp_path / "mes photos", "été 1.jpg", "图片.jpg", "图像.jpg", "..jpg.jpg")
    records = read_folder(tmp_path / "mes photos", "car")
    assert len({r.image_id for r in records}) == len(records) == 3  # '..jpg.jpg' is hidden
    assert any(r.image_id.startswith("ete-1-") for r in records)
    assert all(Path(r.path).is_file() for r in records)


def test_very_long_name(tmp_path):
    put(tmp_path, "x" * 200 + ".jpg")
    assert len(read_folder(tmp_path, "car")[0].image_id) < 100


def test_name_that_is_not_utf8(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"a\xff.jpg")
    try:
        with open(path, "wb") as file:
            file.write(b"x")
    except OSError:
        pytest.skip("this file system allows UTF-8 names only")
    with pytest.raises(InputError, match="not valid UTF-8"):
        read_folder(tmp_path, "car")


def test_missing_folder(tmp_path):
    with pytest.raises(InputError, match=r"gone: the photo folder does not exist"):
        read_folder(tmp_path / "gone")


def test_folder_is_a_file(tmp_path):
    put(tmp_path, "a.jpg")
    with pytest.raises(InputError, match="is a file"):
        read_folder(tmp_path / "a.jpg")


def test_empty_folder(tmp_path):
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(InputError, match=r"no photos in it; expected files that end in \.jpg"):
        read_folder(tmp_path)


def test_photo_without_a_category(tmp_path):
    put(tmp_path, "bus/a.jpg", "b.jpg")
    with pytest.raises(InputError, match=r"b\.jpg: lies directly in the photo folder.*dataset\.category"):
        read_folder(tmp_path)


def test_bad_category_names(tmp_path):
    put(tmp_path, "bus!/a.jpg")
    with pytest.raises(InputError, match=r"sub-folder .*bus!: 'bus!' cannot be a category"):
        read_folder(tmp_path)
    with pytest.raises(InputError, match=r"dataset\.category: '\.\./x' cannot be a category"):
        read_folder(tmp_path, "../x")


def test_categories_of_any_script_in_whichever_form_the_file_system_has_them(tmp_path):
    names = ("Автобус", "車 2", unicodedata.normalize("NFD", "Köln-Bus"))
    put(tmp_path, *(f"{name}/a.jpg" for name in names))
    assert sorted(image.category for image in read_folder(tmp_path)) == ["Köln-Bus", "Автобус", "車 2"]
    assert {image.category for image in read_folder(tmp_path, unicodedata.normalize("NFD", "Köln"))} == {"Köln"}
    assert all(Path(image.path).is_file() for image in read_folder(tmp_path))


def test_masks_by_sub_path_then_by_stem(tmp_path):
    photos = put(tmp_path / "photos", "bus/a.jpg", "bus/b.jpg", "bus/d.jpg", "car/a.jpg", "car/c.JPG")
    masks = put(tmp_path / "masks", "bus/a.png", "car/a.PNG", "b.bmp", "c.JPG.png")
    found = {
        os.path.relpath(r.path, photos): r.mask_path and os.path.relpath(r.mask_path, masks)
        for r in read_folder(photos, masks=masks)
    }
    assert found == {
        "bus/a.jpg": "bus/a.png",
        "bus/b.jpg": "b.bmp",
        "bus/d.jpg": None,
        "car/a.jpg": "car/a.PNG",
        "car/c.JPG": "c.JPG.png",
    }


def test_masks_folder_inside_the_photo_folder_is_not_a_category(tmp_path):
    put(tmp_path, "bus/a.jpg", "masks/a.png")
    records = read_folder(tmp_path, masks=tmp_path / "masks")
    assert [(r.category, Path(r.mask_path).name) for r in records] == [("bus", "a.png")]


@pytest.mark.parametrize("other", ["bus/a.png", "car/a.jpg"])
def test_two_photos_for_one_mask(tmp_path, other):
    photos = put(tmp_path / "photos", "bus/a.jpg", other)
    masks = put(tmp_path / "masks", "a.png")
    with pytest.raises(InputError, match=r"a\.png: is the mask of .* and of .*repeat the photos' sub-folders"):
        read_folder(photos, masks=masks)


def test_two_photos_with_one_stem_and_masks_named_after_the_whole_file(tmp_path):
    photos = put(tmp_path / "photos", "bus/a.jpg", "bus/a.png")
    masks = put(tmp_path / "masks", "a.jpg.png", "a.png.png")
    assert [Path(r.mask_path).name for r in read_folder(photos, masks=masks)] == ["a.jpg.png", "a.png.png"]


def test_masks_folder_without_any_match(tmp_path):
    photos = put(tmp_path / "photos", "bus/a.jpg")
    masks = put(tmp_path / "masks", "z.png")
    with pytest.raises(InputError, match="no mask in it belongs to a photo"):
        read_folder(photos, masks=masks)
    with pytest.raises(InputError, match="masks folder does not exist"):
        read_folder(photos, masks=tmp_path / "gone")


def test_several_masks_of_one_photo(tmp_path):
    """None of them is taken for the right one, whatever the order of their names."""
    photos = put(tmp_path / "photos", "bus/a.jpg", "bus/b.jpg")
    masks = put(tmp_path / "masks", "a.png", "a.jpg", "b.png")
    with pytest.raises(InputError, match=r"bus/a\.jpg: has 2 mask files, .*a\.jpg, .*a\.png; keep the right one"):
        read_folder(photos, masks=masks)


def test_photos_without_a_mask_and_masks_without_a_photo_are_told(tmp_path):
    photos = put(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg")
    masks = put(tmp_path / "masks", "a_mask.png", "b.png")
    (masks / "c.npy").touch()
    (masks / "annotations.json").touch()
    found = list_folder(photos, "car", masks)
    assert found.aside == (
        f"{masks}: 1 of 3 photos have no mask file in it, and theirs are found: a.jpg",
        f"{masks}: 2 left aside, mask files that have the stem of no photo: a_mask.png, annotations.json",
    )
    assert [image.mask_path and Path(image.mask_path).name for image in found.images] == [None, "b.png", "c.npy"]
    (masks / "a_mask.png").rename(masks / "a.png")
    (masks / "annotations.json").unlink()
    assert list_folder(photos, "car", masks).aside == ()


FILES = ("a.jpg", "b.HEIC", "c.JFIF", "d.gif", "e.avif", "f.jpe", "n.txt", "m.mov", "M.MOV", "README", ".x.jpg", "x.jpg.part")


@given(st.lists(st.sampled_from(FILES), unique=True, min_size=1))
def test_every_file_is_a_photo_or_counted(tmp_path_factory, files):
    """By name alone: what there is, is either listed or left aside, and nothing twice."""
    root = tmp_path_factory.mktemp("files")
    for name in files:
        (root / name).write_text("x")
    photos = {name for name in files if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS}
    try:
        found = list_folder(root, "car")
        told = found.aside
        assert set(names(found.images, root)) == photos
    except InputError as error:
        assert not photos
        told = tuple(part for part in str(error).split("; ") if "left aside" in part)
    counted = sum(int(line.removeprefix(f"{root}: ").split()[0]) for line in told)
    assert counted == len(files) - len(photos)


def test_what_is_left_aside_is_counted_by_its_ending_with_the_reason(tmp_path):
    put(tmp_path, "bus/a.jpg", ".hidden.jpg")
    for name in ("bus/a.mov", "bus/b.MOV", "notes.txt", "bus/LICENSE"):
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "bus" / "pipe.jpg")
    (tmp_path / "bus" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert list_folder(tmp_path).aside == (
        f"{tmp_path}: 1 left aside, hidden, as their names begin with a dot: .hidden.jpg",
        f"{tmp_path}: 2 left aside, no regular files, or links to nothing: bus/gone.jpg, bus/pipe.jpg",
        f"{tmp_path}: 4 left aside, with another ending (2 .mov, 1 .txt, 1 none): bus/LICENSE, bus/a.mov, bus/b.MOV and 1 more",
    )


def test_a_folder_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    put(tmp_path, "bus/a.jpg", "car/b.jpg")
    scandir = os.scandir

    def closed(path):
        if Path(path).name == "car":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    found = list_folder(tmp_path)
    assert names(found.images, tmp_path) == ["bus/a.jpg"]
    assert found.aside == (f"{tmp_path}: 1 left aside, folders that cannot be read: car (Permission denied)",)


def test_linked_folders_are_told_and_followed_only_if_that_is_wanted(tmp_path):
    """Each folder once, under its own name where it has one in the photo folder; a link to itself has no end."""
    photos, elsewhere = put(tmp_path / "photos", "bus/a.jpg", "bus/deep/d.jpg"), put(tmp_path / "elsewhere", "b.jpg", "sub/c.jpg")
    (photos / "car").symlink_to(elsewhere)
    (photos / "again").symlink_to(elsewhere / "sub")
    (photos / "bus" / "loop").symlink_to(photos)
    (photos / "alias").symlink_to(photos / "bus" / "deep")
    (photos / "e.jpg").symlink_to(elsewhere / "b.jpg")
    told = list_folder(photos, "car")
    assert names(told.images, photos) == ["bus/a.jpg", "bus/deep/d.jpg", "e.jpg"]
    assert told.aside == (
        f"{photos}: 4 left aside, folders that are links, which dataset.follow_links=true follows: again, alias, bus/loop and 1 more",
    )
    followed = list_folder(photos, "car", follow_links=True)
    found = [os.path.realpath(image.path) for image in followed.images if not Path(image.path).is_symlink()]
    wanted = [photos / "bus/a.jpg", photos / "bus/deep/d.jpg", elsewhere / "b.jpg", elsewhere / "sub/c.jpg"]
    assert sorted(found) == sorted(str(path) for path in wanted)
    assert "bus/deep/d.jpg" in names(followed.images, photos)
    assert len(followed.aside) == 1
    assert "linked folders that are in it already" in followed.aside[0]
