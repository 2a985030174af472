"""Any folder of photos as a dataset."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sc3d.datasets.folder import read_folder
from sc3d.errors import InputError
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
