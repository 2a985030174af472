"""Labellings: chains against plain loops, viewpoints between two images, the sphere filter, and the filters of the ablation."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sc3d.class_shapes.camera import in_sides
from sc3d.class_shapes.carry import AlignedImage
from sc3d.class_shapes.prototypes import Prototypes
from sc3d.config import LabelConfig, MatchConfig
from sc3d.errors import ConfigError, InputError
from sc3d.evaluation.labellings import (
    LABELLINGS,
    KeptMatches,
    agreed_by_class_shapes,
    chain_between,
    chained_matches,
    filtered_matches,
    labelling_named,
    on_one_spot,
    to_labels,
)
from sc3d.grid import Letterbox
from sc3d.matching.candidates import similarity
from sc3d.matching.described import Described
from sc3d.matching.explain import explain_pair
from sc3d.matching.filters import FILTERS

FLAT = MatchConfig(alpha=0.6, beta=0.4)


@pytest.fixture
def images(make_features):
    return [Described(make_features(i, f"i{i}", n_foreground=70), FLAT) for i in range(4)]


def plain_chain(images: list[Described]) -> dict[int, tuple[int, float]]:
    """Source cell -> (target cell, cells that the worst hop was off), by loops over points."""
    alive = {int(cell): (row, 0.0) for row, cell in enumerate(images[0].cells)}
    for here, there in itertools.pairwise(images):
        cosines = similarity(here, there).numpy()
        step = {}
        for cell, (row, worst) in alive.items():
            forward = int(cosines[row].argmax())
            back = max((r for r, _ in alive.values()), key=lambda r: cosines[r, forward])
            a, b = divmod(int(here.cells[back]), 12), divmod(int(here.cells[row]), 12)
            off = float(np.hypot(a[0] - b[0], a[1] - b[1]))
            if off <= 2:
                step[cell] = (forward, max(worst, off))
        alive = step
    return {cell: (int(images[-1].cells[row]), worst) for cell, (row, worst) in alive.items()}


@pytest.mark.parametrize("length", [2, 3, 4])
def test_chains_equal_plain_loops(images, length):
    expected = plain_chain(images[:length])
    found = chained_matches(images[:length])
    assert dict(zip(found.source_cells.tolist(), found.target_cells.tolist(), strict=True)) == {
        c: t for c, (t, _) in expected.items()
    }
    np.testing.assert_allclose(
        found.cycle_error, [expected[c][1] * images[0].letterbox.cell_pixels for c in found.source_cells], rtol=1e-6
    )
    assert 0 < len(found.source_cells) < 70
    assert (np.diff(found.source_cells) > 0).all()
    np.testing.assert_allclose(found.target_xy, images[length - 1].letterbox.centres(found.target_cells))


def test_an_image_without_foreground_ends_a_chain(make_features, images):
    nothing = Described(make_features(9, "n", n_foreground=0), FLAT)
    assert len(chained_matches([images[0], nothing, images[1]]).source_cells) == 0


def test_filters_of_the_ablation_keep_what_the_filters_keep(make_features):
    source, target = (Described(make_features(i, f"i{i}"), MatchConfig()) for i in (1, 2))
    explanation = explain_pair(source, target, LabelConfig())
    for labelling in LABELLINGS.values():
        if not (labelling.chained or labelling.annotated):
            keep = FILTERS[labelling.filter](explanation, LabelConfig())
            found = filtered_matches(labelling, explanation, LabelConfig())
            np.testing.assert_array_equal(found.source_cells, explanation.source_cells[keep])
    labels = to_labels(found, source, target, "toy", len(explanation))
    assert (labels.n_kept, labels.n_candidates) == (len(found.cosine), len(explanation))
    assert labels.tau_geo == 0


IDS = ["a", "b", "c", "d", "e"]
AZIMUTHS = np.array([10.0, 60.0, 100.0, 150.0, 350.0])


def test_chains_go_the_shorter_way_through_the_viewpoints_between():
    assert chain_between("a", "d", IDS, AZIMUTHS) == ["a", "b", "c", "d"]
    assert chain_between("d", "a", IDS, AZIMUTHS) == ["d", "c", "b", "a"]
    assert chain_between("e", "b", IDS, AZIMUTHS) == ["e", "a", "b"]
    assert chain_between("a", "b", IDS, AZIMUTHS) == ["a", "b"]
    # 60 degrees is not there: its viewpoint is skipped.
    assert chain_between("a", "c", ["a", "c"], np.array([10.0, 100.0])) == ["a", "c"]
    assert chain_between("a", "d", IDS, np.full(5, np.nan)) == ["a", "d"]


def test_which_image_of_a_viewpoint_follows_from_the_pair():
    ids = ["s", "t", *(f"m{i}" for i in range(20))]
    azimuths = np.array([10.0, 100.0, *([60.0] * 20)])
    middle = {chain_between("s", "t", ids[::order], azimuths[::order])[1] for order in (1, -1)}
    assert len(middle) == 1
    others = {chain_between(f"m{i}", "t", ids, azimuths)[0] for i in range(3)}
    assert others == {"m0", "m1", "m2"}


def test_spheres_keep_what_lies_on_one_spot():
    angles = np.radians([0, 20, 26.9, 27.1, 180])
    matches = KeptMatches(np.arange(5), np.arange(5), np.zeros((5, 2)), np.zeros((5, 2)), np.ones(5), np.zeros(5), np.zeros(5))
    source = np.tile([2.0, 0, 0], (3, 3, 1))
    target = np.zeros((3, 3, 3))
    target.reshape(-1, 3)[:5] = np.stack([np.cos(angles), np.sin(angles), np.zeros(5)], axis=1)
    keep = on_one_spot(matches, (source, target))
    assert keep.tolist() == [True, True, True, False, False]
    assert matches.select(keep).source_cells.tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"\(side, side, 3\) of the working grid, not \(2, 2, 3\)"):
        on_one_spot(matches, (np.ones((2, 2, 3)), target))


def test_every_filter_is_a_labelling_under_its_own_name():
    for name, keeps in FILTERS.items():
        labelling = labelling_named(name)
        assert (labelling.filter, labelling.shape, labelling.chained, labelling.code) == (name, True, False, "")
        assert keeps.__doc__.split()[-1].rstrip(".") in labelling.meaning
    assert labelling_named("2d") is LABELLINGS["2d"]


NEAR = """
import numpy as np

LIMIT = {limit}

def keep_near(explanation, config):
    \"\"\"Cosines that are large enough.

    More about it.\"\"\"
    return explanation.cosine > LIMIT
"""


@pytest.fixture
def near(install: Callable[[str, str, str], Path]) -> Path:
    """The module of a filter of somebody else, which is also an installed package."""
    return install("near_of_tests", NEAR.format(limit=0.5), "[sc3d.filters]\nnear = near_of_tests:keep_near\n")


@pytest.mark.parametrize("name", ["near", "near_of_tests:keep_near"])
def test_a_filter_of_ones_own_makes_labels(near, make_features, name):
    labelling = labelling_named(name)
    assert (labelling.name, labelling.filter, labelling.shape) == (name, name, True)
    assert labelling.meaning == "2D and 3D features, filter: cosines that are large enough"
    explanation = explain_pair(*(Described(make_features(i, f"i{i}"), MatchConfig()) for i in (1, 2)), LabelConfig())
    found = filtered_matches(labelling, explanation, LabelConfig())
    assert 0 < len(found.cosine) < len(explanation)
    np.testing.assert_array_equal(found.cosine, explanation.cosine[explanation.cosine > 0.5])


def test_another_version_of_a_filter_is_told_apart(near):
    codes = []
    for limit in (0.5, 0.6, 0.5):
        near.write_text(NEAR.format(limit=limit))
        codes.append(labelling_named("near").code)
    assert codes[0] == codes[2] != codes[1]
    assert all(codes)


def test_class_shapes_agree_where_both_ends_show_nearly_one_point(images):
    """Three points that look alike, the first two 0.09 apart: what is next to the third one is not what is next to the first."""
    explanation = explain_pair(images[0], images[1], LabelConfig())
    matches = filtered_matches(LABELLINGS["2d"], explanation, LabelConfig())
    looks = Prototypes(np.ones((3, 1), np.float32), np.ones(3, np.float32), np.ones(3, np.float32))
    points = np.array([[0.0, 0, 0], [0.09, 0, 0], [1, 0, 0]])
    places = [
        in_sides(xy, (box.width, box.height))
        for xy, box in ((matches.source_xy, images[0].letterbox), (matches.target_xy, images[1].letterbox))
    ]

    def seen(ends: np.ndarray, box: Letterbox) -> AlignedImage:
        return AlignedImage(box, np.ones((box.side**2, 1), np.float32), ends, points, looks)

    spread = [np.quantile(at, [0, 0.4, 1], axis=0) for at in places]
    aligned = tuple(seen(ends, one.letterbox) for ends, one in zip(spread, images[:2], strict=True))
    nearest = [np.linalg.norm(at[:, None] - ends[None], axis=2).argmin(axis=1) for at, ends in zip(places, spread, strict=True)]
    expected = np.isin(nearest[0], [0, 1]) == np.isin(nearest[1], [0, 1])
    assert 0 < expected.sum() < len(expected)
    np.testing.assert_array_equal(agreed_by_class_shapes(matches, aligned), expected)


def test_unknown_labellings_name_what_is_near(near):
    for name, reason in (
        (
            "2d-cycles",
            r"no labelling named '2d-cycles' \(did you mean 2d-cycle.*are 2d, .*keypoints, none, .*geodesic, near;",
        ),
        ("neat", r"did you mean near\?"),
        ("near_of_tests:LIMIT", "labelling 'near_of_tests:LIMIT' must be a filter, .* not 0.5"),
        ("near_of_tests:keep", "has no keep"),
    ):
        with pytest.raises(ConfigError, match=reason):
            labelling_named(name)
