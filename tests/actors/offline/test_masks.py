"""Loading photos and finding masks without a segmenter."""

import cv2
import numpy as np
import pytest
from PIL import Image

from actors.base import check_actors, run_actors
from actors.mask_signs import MaskSigns, MaskSignsBesideFiles
from actors.offline.load import LoadImage
from actors.offline.masks import FileMask, GrabcutMask, grabcut_mask
from actors.surface import object_extent
from sc3d.config import RunConfig
from sc3d.config_file import parse_config
from sc3d.errors import InputError


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def scene(width=400, height=300, centre=(200, 150), radii=(110, 80), seed=0):
    """A reddish ellipse in front of a bluish background, both noisy: image (H, W, 3), true mask (H, W)."""
    y, x = np.mgrid[:height, :width] + 0.5
    mask = ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 <= 1
    image = np.where(mask[..., None], (190, 60, 40), (70, 110, 160))
    noise = np.random.default_rng(seed).normal(0, 20, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), mask


def test_central_object_is_found_from_the_border():
    image, mask = scene()
    assert iou(grabcut_mask(image), mask) > 0.95


def test_box_finds_an_object_off_the_centre():
    image, mask = scene(centre=(70, 60), radii=(45, 40))
    assert iou(grabcut_mask(image, np.array([20, 15, 120, 105], np.float32)), mask) > 0.9


def test_box_over_the_whole_image_falls_back_to_the_border():
    image, mask = scene()
    assert iou(grabcut_mask(image, np.array([0, 0, 400, 300])), mask) > 0.95


def test_result_has_the_image_size_and_is_deterministic():
    image, _ = scene(width=517, height=701, centre=(250, 350), radii=(120, 200))
    first = grabcut_mask(image)
    assert first.shape == (701, 517)
    assert first.dtype == bool
    cv2.setRNGSeed(7)
    np.testing.assert_array_equal(grabcut_mask(image), first)


def test_only_the_largest_piece_is_kept():
    image, mask = scene(centre=(150, 150), radii=(90, 80))
    other, small = scene(centre=(290, 150), radii=(20, 20))
    image[small] = other[small]
    found = grabcut_mask(image)
    assert iou(found, mask) > 0.9
    assert not found[150, 290]


def test_small_image():
    image, mask = scene(width=16, height=16, centre=(8, 8), radii=(4, 4))
    assert iou(grabcut_mask(image), mask) > 0.5


def test_uniform_image_has_no_object():
    with pytest.raises(InputError, match=r"GrabCut found .*give the photo a mask file"):
        grabcut_mask(np.full((200, 300, 3), 90, np.uint8))


@pytest.mark.parametrize("box", [[500, 10, 600, 90], [50, 50, 50, 90], [90, 50, 40, 20]])
def test_box_outside_the_image_is_an_input_error(box):
    with pytest.raises(InputError, match="does not overlap the image"):
        grabcut_mask(scene()[0], np.array(box, np.float32))


# --- actors ---------------------------------------------------------------------------------------------------------------------


def row(path, **more):
    return {"image_id": path.stem, "path": str(path), "category": "car", "mask_path": None, "bbox": None, **more}


def run(rows, actor=FileMask):
    return run_actors([LoadImage(RunConfig()), actor(RunConfig())], rows, "image_id", "reconstruct")


def test_contracts_fit_the_manifest():
    check_actors([LoadImage, FileMask], ["image_id", "path", "category", "mask_path", "bbox"])
    check_actors([LoadImage, GrabcutMask], ["image_id", "path", "bbox"])


def test_mask_file_is_preferred_unless_told_otherwise(tmp_path):
    image, mask = scene()
    Image.fromarray(image).save(tmp_path / "a.png")
    other = np.zeros(mask.shape, np.uint8)
    other[:20, :30] = 255
    Image.fromarray(other).save(tmp_path / "m.png")
    one = row(tmp_path / "a.png", mask_path=str(tmp_path / "m.png"))
    outcome = run([one])[0]
    assert (outcome.row["width"], outcome.row["height"]) == (400, 300)
    np.testing.assert_array_equal(outcome.row["mask"], other > 0)
    cut = run([one], GrabcutMask)[0]
    assert iou(cut.row["mask"], mask) > 0.95


def test_mask_file_of_a_photo_with_exif_orientation(tmp_path):
    """The mask was drawn on the pixels as stored (rotated by 90 degrees), and comes back on the upright image."""
    image, mask = scene()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(image)).save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(np.rot90(mask).astype(np.uint8) * 255).save(tmp_path / "m.png")
    outcome = run([row(tmp_path / "a.jpg", mask_path=str(tmp_path / "m.png"))])[0]
    np.testing.assert_array_equal(outcome.row["mask"], mask)


def test_a_cut_out_photo_is_its_own_mask_where_files_count(tmp_path):
    """After a mask file, before GrabCut; and taken as meant, as a file is."""
    image, mask = scene()
    opaque = np.zeros(mask.shape, bool)
    opaque[40:90, 30:200] = True
    Image.fromarray(np.dstack([image, opaque.astype(np.uint8) * 255])).save(tmp_path / "a.png")
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "m.png")
    alone, with_file = row(tmp_path / "a.png"), row(tmp_path / "a.png", mask_path=str(tmp_path / "m.png"))
    for one, expected in ((alone, opaque), (with_file, mask)):
        config = RunConfig()
        actors = [LoadImage(config), FileMask(config), MaskSignsBesideFiles(config)]
        outcome = run_actors(actors, [one], "image_id", "reconstruct")[0]
        np.testing.assert_array_equal(outcome.row["mask"], expected)
        assert outcome.row["mask_flags"] == ()
    found = run_actors([LoadImage(config), FileMask(parse_config({"reconstruct": {"mask": "grabcut"}}))], [alone], "image_id", "x")[
        0
    ]
    assert not np.array_equal(found.row["mask"], opaque)


def test_specks_of_any_mask_do_not_widen_what_follows_from_it(tmp_path):
    image, mask = scene()
    Image.fromarray(image).save(tmp_path / "a.png")
    spotted = mask.copy()
    spotted[:3, :3] = spotted[-3:, -3:] = True
    Image.fromarray(spotted.astype(np.uint8) * 255).save(tmp_path / "m.png")
    actors = [LoadImage(RunConfig()), FileMask(RunConfig()), MaskSignsBesideFiles(RunConfig())]
    outcome = run_actors(actors, [row(tmp_path / "a.png", mask_path=str(tmp_path / "m.png"))], "image_id", "reconstruct")[0]
    np.testing.assert_array_equal(outcome.row["mask"], mask)
    found = MaskSigns(RunConfig()).process({"image": image, "mask": spotted})
    np.testing.assert_array_equal(found["mask"], mask)
    assert object_extent(found["mask"]) == object_extent(mask)


def test_every_bad_file_is_rejected_alone_with_its_name(tmp_path):
    image, mask = scene()
    good = tmp_path / "good été.png"
    Image.fromarray(image).save(good)
    (tmp_path / "unreadable.jpg").write_text("x")
    Image.fromarray(image).save(tmp_path / "truncated.jpg")
    data = (tmp_path / "truncated.jpg").read_bytes()
    (tmp_path / "truncated.jpg").write_bytes(data[: len(data) // 2])
    Image.new("RGB", (1, 1)).save(tmp_path / "pixel.png")
    Image.new("RGB", (300, 200), "grey").save(tmp_path / "uniform.png")
    for name, values in {"other_size": mask[:50], "empty": mask & False, "full": mask | True}.items():
        Image.fromarray(values.astype(np.uint8) * 255).save(tmp_path / f"{name}.png")
    with_mask = [
        row(good, image_id=name, mask_path=str(tmp_path / f"{name}.png")) for name in ("other_size", "empty", "full", "gone")
    ]
    bad = [row(tmp_path / n) for n in ("unreadable.jpg", "truncated.jpg", "pixel.png", "uniform.png", "missing.png")] + with_mask
    outcomes = run([*bad, row(good)])
    for one, outcome in zip(bad, outcomes[:-1], strict=True):
        assert outcome.reject is not None, one["image_id"]
        assert outcome.reject.error_type == "InputError"
        assert one["image_id"] in outcome.reject.message
    assert outcomes[-1].reject is None
    assert iou(outcomes[-1].row["mask"], mask) > 0.95


def test_the_recipe_follows_what_the_mask_depends_on():
    assert FileMask.made_of(RunConfig()) != GrabcutMask.made_of(RunConfig())
    assert FileMask.made_of(RunConfig()) == FileMask.made_of(parse_config({"seed": 5}))
    # The kind of the data set says what a mask file means, and nothing to GrabCut, which reads none.
    other = parse_config({"dataset": {"kind": "spair"}})
    assert FileMask.made_of(RunConfig()) != FileMask.made_of(other)
    assert GrabcutMask.made_of(RunConfig()) == GrabcutMask.made_of(other)
