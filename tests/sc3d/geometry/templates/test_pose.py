"""The view that a photo shows, and the fit of the template to its mask, on renders whose pose is known."""

import numpy as np
import pytest

from sc3d.datasets.toys.template import toy_template
from sc3d.errors import InputError
from sc3d.geometry.camera import Camera, Pose, camera_azimuth, looking_from
from sc3d.geometry.raster import Raster
from sc3d.geometry.templates.choose import choose_template, render_cosines
from sc3d.geometry.templates.decide import fitted_cosine, pose_template
from sc3d.geometry.templates.fit import fit_template
from sc3d.geometry.templates.pose import RIVAL_DEGREES, compare, feature_scores, frame_photo
from sc3d.geometry.templates.views import CELLS, VIEWS, TemplateViews

SIZE = (240, 180)


def describe(frames):
    """Three layers of a cell's mean colour, its contrast, and both with its neighbours: enough for renders of one painter."""
    blocks = frames.astype(np.float32).reshape(len(frames), CELLS, 16, CELLS, 16, 3)
    mean, spread = blocks.mean(axis=(2, 4)), blocks.std(axis=(2, 4))
    down, right = np.gradient(mean, axis=(1, 2))
    return [
        np.moveaxis(layer, 3, 1) for layer in (mean, np.concatenate([mean, spread], axis=3), np.concatenate([down, right], axis=3))
    ]


@pytest.fixture(scope="module")
def views():
    return TemplateViews(toy_template("car"), describe)


def photo_of(template, azimuth, elevation=15.0, t=(0.15, -0.1, 3.2)):
    """A render, its mask and its azimuth as the camera sees it, off the image's middle."""
    camera = Camera.from_focal(400.0, *SIZE)
    pose = Pose(looking_from(azimuth, elevation, 0), np.array(t))
    maps = Raster(template.mesh).render(pose, camera, *SIZE)
    image = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    image[maps.mask] = np.round(255 * template.colours[maps.face[maps.mask]] ** (1 / 2.2))
    return image, maps.mask, float(camera_azimuth(pose.R, pose.t))


def gap(one, other):
    return abs((one - other + 180) % 360 - 180)


# Seen from the side: these descriptors know colours, and another instance is painted otherwise, so that front and back look alike.
@pytest.mark.parametrize("azimuth", [130.0, 250.0])
def test_the_pose_of_another_instance_is_found_and_fits_its_mask(views, azimuth):
    image, mask, truth = photo_of(toy_template("car", 3), azimuth)
    photo = frame_photo(image, mask, describe)
    found = pose_template(views, photo, SIZE)
    assert found.confidence > 0
    fitted = found.fitted
    assert gap(float(camera_azimuth(fitted.pose.R, fitted.pose.t)), truth) <= 20
    drawn = Raster(fitted.mesh).render(fitted.pose, fitted.camera, *SIZE).mask
    assert (drawn & mask).sum() / (drawn | mask).sum() > 0.85
    assert fitted.iou > 0.85


def test_the_two_views_lie_on_two_sides_and_are_the_best_of_them(views):
    image, mask, _ = photo_of(toy_template("car", 3), 130.0)
    found = compare(frame_photo(image, mask, describe), views)
    best, rival = found.views
    assert found.scores[best] == found.scores.max()
    others = [view for view, (azimuth, _) in enumerate(VIEWS) if gap(azimuth, VIEWS[best][0]) > RIVAL_DEGREES]
    assert rival == max(others, key=lambda view: found.scores[view])


def test_the_side_is_decided_by_the_fitted_render(views):
    image, mask, truth = photo_of(views.template, 40.0)
    photo = frame_photo(image, mask, describe)
    right, wrong = (pose_template(views, photo, SIZE, (truth + turn) % 360).fitted for turn in (0, 180))
    margin = fitted_cosine(views, photo, right) - fitted_cosine(views, photo, wrong)
    assert margin > 0.1
    both = pose_template(views, photo, SIZE)
    assert gap(float(camera_azimuth(both.fitted.pose.R, both.fitted.pose.t)), truth) <= 20
    scores = compare(photo, views).scores
    assert both.confidence > np.sort(scores)[-1] - scores[compare(photo, views).views[1]]


def test_what_a_person_says_decides_between_the_sides(views):
    image, mask, truth = photo_of(toy_template("car", 3), 130.0)
    photo = frame_photo(image, mask, describe)
    alone = compare(photo, views)
    for said in (truth, truth + 180, 45.0):
        found = compare(photo, views, said % 360)
        assert len(found.views) == 1
        assert gap(VIEWS[found.views[0]][0], said) <= 45
        np.testing.assert_array_equal(found.scores, alone.scores)
        posed = pose_template(views, photo, SIZE, said % 360)
        assert posed.confidence == np.inf
        assert gap(posed.fitted.azimuth, said) <= 75


def test_a_fit_keeps_the_numbering_and_the_unit_box(views):
    image, mask, _ = photo_of(toy_template("car", 4), 60.0)
    photo = frame_photo(image, mask, describe)
    fitted = pose_template(views, photo, SIZE).fitted
    np.testing.assert_array_equal(fitted.mesh.faces, views.template.mesh.faces)
    sides = np.ptp(fitted.mesh.vertices, axis=0)
    assert sides.max() == pytest.approx(1)
    ratio = sides / np.ptp(views.template.mesh.vertices, axis=0)
    assert ratio[1] / ratio[0] == pytest.approx(fitted.height)
    assert ratio[2] / ratio[0] == pytest.approx(fitted.length)


def test_an_object_cut_by_the_border_is_fitted_beyond_it(views):
    image, mask, truth = photo_of(toy_template("car"), 90.0, t=(0.75, 0.0, 3.2))
    assert mask[:, -1].any()
    photo = frame_photo(image, mask, describe)
    fitted = fit_template(views.template, photo, (truth, 15.0, 1.0, 1.0), SIZE)
    assert fitted.iou > 0.85


def test_feature_scores_are_the_plain_search_for_the_best_neighbour(views):
    image, mask, _ = photo_of(toy_template("car", 5), 200.0)
    photo = frame_photo(image, mask, describe)
    view, total, n = 11, 0.0, 0
    inside = photo.foreground.reshape(CELLS, CELLS)
    for cell in np.flatnonzero(views.foreground[:, view]):
        row, column = divmod(int(cell), CELLS)
        near = [
            photo.cells[r * CELLS + c] @ views.cells[cell, view]
            for r in range(max(row - 1, 0), min(row + 2, CELLS))
            for c in range(max(column - 1, 0), min(column + 2, CELLS))
            if inside[r, c]
        ]
        total, n = total + max(near, default=-1.0), n + 1
    assert feature_scores(photo, views)[view] == pytest.approx(total / n, abs=1e-5)


def test_an_empty_mask_is_refused():
    with pytest.raises(InputError, match="empty"):
        frame_photo(np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20), bool), describe)


def test_a_mask_of_one_pixel_is_posed_somehow(views):
    mask = np.zeros((50, 60), bool)
    mask[20, 30] = True
    photo = frame_photo(np.zeros((50, 60, 3), np.uint8), mask, describe)
    fitted = pose_template(views, photo, (60, 50)).fitted
    assert np.isfinite(fitted.mesh.vertices).all()


def test_the_template_of_the_category_is_chosen_and_a_foreign_one_does_not_fit():
    photos = [frame_photo(*photo_of(toy_template("car", 6 + i), 40.0 + 70 * i)[:2], describe) for i in range(3)]
    templates = [toy_template("bottle"), toy_template("car")]
    cosines = [render_cosines(TemplateViews(template, describe), photos) for template in templates]
    least = sum(map(sum, cosines)) / 2
    choice = choose_template(templates, photos, describe, least)
    assert (choice.best, choice.fits) == (1, True)
    assert (choice.cosine, choice.lead) == pytest.approx(cosines[1])
    assert not choose_template(templates[:1], photos, describe, least).fits
