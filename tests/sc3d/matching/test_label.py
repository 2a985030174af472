"""The label step against its plain reference, its edge cases, and the explanation of a pair."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sc3d.config import LabelConfig, MatchConfig
from sc3d.errors import FeatureError
from sc3d.features import Features
from sc3d.grid import Letterbox
from sc3d.matching.candidates import within_cycle
from sc3d.matching.described import Described
from sc3d.matching.explain import CYCLE, GEODESIC, SURFACE, explain_pair
from sc3d.matching.label import match_pair
from sc3d.matching.lift import positions
from sc3d.matching.transfer import transfer_of
from sc3d.matching.verify import verify_pair
from sc3d.records import Matches
from sc3d.schema import from_table, to_table

CONFIGS = [MatchConfig(), MatchConfig(alpha=0.6, beta=0.4, tau_cc=0.3), MatchConfig(alpha=0, beta=0, tau_geo=0.1)]


@given(seed=st.integers(0, 10**6), config=st.sampled_from(CONFIGS), n=st.sampled_from([1, 2, 30]), mesh=st.sampled_from([1, 1, 0]))
@settings(max_examples=25)
def test_match_pair_equals_the_plain_reference(make_features, reference, seed, config, n, mesh):
    source = make_features(seed, "s", n_foreground=n, mesh=bool(mesh), size=(200, 120))
    target = make_features(seed + 1, "t", n_foreground=30, n_covered=25, size=(90, 160))
    if not mesh and config.alpha + config.beta == 0:
        return
    candidates, passing, kept = reference.reference_label(source, target, config)
    matches = match_pair(Described(source, config), Described(target, config), "toy", config)
    assert (matches.n_candidates, matches.n_cycle, len(matches)) == (candidates, passing, len(kept))
    np.testing.assert_array_equal(source.letterbox.cells_of(matches.source_xy), [k[0] for k in kept])
    np.testing.assert_array_equal(target.letterbox.cells_of(matches.target_xy), [k[1] for k in kept])
    for column, name in ((2, "cosine"), (3, "cycle_error"), (4, "geodesic_error")):
        np.testing.assert_allclose(getattr(matches, name), [k[column] for k in kept], atol=2e-5)
    assert (matches.source_extent, matches.source_cell) == (source.extent, source.letterbox.cell_pixels)


def test_the_reference_test_sees_all_outcomes(make_features, reference):
    """Guards the property above: its scenes must keep some candidates and reject some by each filter."""
    outcomes = set()
    for seed in range(4):
        source, target = (Described(make_features(seed + i, f"i{i}"), MatchConfig()) for i in (0, 1))
        outcomes |= set(explain_pair(source, target, LabelConfig(tau_geo=0.2)).rejected_by)
    assert outcomes == {"", CYCLE, SURFACE, GEODESIC}


def test_explanation_holds_every_error_and_agrees_with_match_pair(make_features, reference):
    label = LabelConfig(tau_cc=0.1, tau_geo=0.2)
    features = make_features(5, "s", n_foreground=80), make_features(6, "t", n_foreground=80)
    source, target = (Described(f, MatchConfig()) for f in features)
    explanation = explain_pair(source, target, label)
    matches = match_pair(source, target, "toy", MatchConfig(tau_cc=0.1, tau_geo=0.2))
    kept = explanation.rejected_by == ""
    assert len(explanation) == matches.n_candidates
    assert (explanation.rejected_by != CYCLE).sum() == matches.n_cycle
    np.testing.assert_allclose(explanation.source_xy[kept], matches.source_xy, atol=1e-4)
    np.testing.assert_array_equal(explanation.geodesic_error[kept], matches.geodesic_error)
    surfaces = features[0].surface, features[1].surface
    for i, (cell, row, other, other_row, cosine, cycle) in enumerate(reference.reference_candidates(*features, MatchConfig())):
        assert (explanation.source_cells[i], explanation.target_cells[i]) == (cell, other)
        assert explanation.cosine[i] == pytest.approx(cosine, abs=1e-5)
        assert explanation.cycle_error[i] == pytest.approx(cycle, abs=1e-4)
        if surfaces[0].fill_distance[row] > 1 or surfaces[1].fill_distance[other_row] > 1:
            assert explanation.predicted_target[i] == -1
            assert np.isnan(explanation.shape_cosine[i])
            continue
        query = reference.point_descriptor(features[0], row)
        assert explanation.predicted_target[i] == reference.nearest_vertex(features[1], query)
        assert explanation.target_vertex[i] == surfaces[1].dominant[other_row]
        mine, theirs = reference.unit(query), reference.unit(reference.point_descriptor(features[1], other_row))
        assert explanation.shape_cosine[i] == pytest.approx(mine @ theirs, abs=1e-5)


class Asked:
    """The nearest transfer, and how many hits it was asked for in each direction."""

    def __init__(self):
        self.counts = []

    def predict(self, hits, origin, destination):
        self.counts.append(len(hits))
        return transfer_of("nearest").predict(hits, origin, destination)


def test_a_limit_leaves_out_what_cannot_be_kept_and_changes_nothing_else(make_features):
    config = MatchConfig(tau_cc=0.1, tau_geo=0.1)
    source, target = (Described(make_features(i, f"i{i}", n_foreground=80), config) for i in (5, 6))
    asked, limited = Asked(), Asked()
    whole, part = verify_pair(source, target, asked), verify_pair(source, target, limited, limit=config)
    passing = within_cycle(source, whole.candidates.cycle_error, config.tau_cc)
    np.testing.assert_array_equal(part.searched, np.flatnonzero(passing))
    assert asked.counts == [(whole.verified.source_hits >= 0).sum()] * 2
    assert limited.counts[0] == (passing & (whole.verified.source_hits >= 0)).sum() < asked.counts[0]
    assert 0 < limited.counts[1] < limited.counts[0]
    searched_back = part.verified.predicted_source >= 0
    assert searched_back.sum() == limited.counts[1]
    np.testing.assert_array_equal(part.verified.error[searched_back], whole.geodesic_error[part.searched[searched_back]])
    np.testing.assert_array_equal(np.isfinite(part.geodesic_error).nonzero()[0], part.searched[np.isfinite(part.verified.error)])
    close = passing & (whole.geodesic_error <= np.float32(config.tau_geo))
    assert close.any()
    np.testing.assert_array_equal(part.geodesic_error[close], whole.geodesic_error[close])


def test_positions_are_from_the_box_centre_in_diagonals(make_features):
    surface = make_features(1).surface
    low, high = surface.vertices.min(axis=0), surface.vertices.max(axis=0)
    point = surface.barycentric[3] @ surface.vertices[surface.corners[3]]
    np.testing.assert_allclose(positions(surface, np.array([3]))[0], (point - (low + high) / 2) / surface.diagonal, atol=1e-6)


def test_an_image_matches_itself_perfectly(make_features):
    image = Described(make_features(2, "same", n_vertices=300), MatchConfig())
    matches = match_pair(image, image, "toy", MatchConfig())
    np.testing.assert_array_equal(matches.source_xy, matches.target_xy)
    assert matches.pair_id == "same~same"
    assert not matches.cycle_error.any()
    np.testing.assert_allclose(matches.cosine, 1, atol=1e-5)


@pytest.mark.parametrize(
    ("source", "candidates"),
    [
        ({"n_foreground": 0}, 0),
        ({"n_foreground": 1}, 1),
        ({"mesh": False}, 0),
        ({"n_covered": 0}, 0),
    ],
)
def test_an_image_with_nothing_to_match_gives_a_row_and_no_error(make_features, source, candidates):
    config = MatchConfig()
    empty, full = Described(make_features(1, "e", **source), config), Described(make_features(2, "f"), config)
    there, back = match_pair(empty, full, "toy", config), match_pair(full, empty, "toy", config)
    assert there.n_candidates == candidates
    assert len(there) <= candidates
    assert len(back) <= back.n_candidates
    assert len(explain_pair(empty, full, LabelConfig())) == candidates
    [stored] = from_table(Matches, to_table(Matches, [there]))
    assert len(stored) == len(there)


def test_without_3d_weight_cells_need_no_mesh_but_labels_do(make_features):
    config = MatchConfig(alpha=0.6, beta=0.4)
    plain, full = Described(make_features(1, "p", mesh=False), config), Described(make_features(2, "f"), config)
    matches = match_pair(plain, full, "toy", config)
    assert (matches.n_candidates, len(matches)) == (60, 0)
    assert set(explain_pair(plain, full, LabelConfig(tau_cc=0.5)).rejected_by) <= {CYCLE, SURFACE}


def test_balls_that_are_too_small_to_decide_are_refused(make_features):
    image = Described(make_features(1, "small"), MatchConfig())
    with pytest.raises(FeatureError, match=r"small: its geodesic balls reach 0\.400 .* describe\.ball_radius at least 0\.600"):
        match_pair(image, image, "toy", MatchConfig(tau_geo=0.3))
    with pytest.raises(FeatureError, match=r"0\.600"):
        explain_pair(image, image, LabelConfig(tau_geo=0.3))


def test_a_dominant_vertex_without_ball_is_named(make_features):
    features = make_features(1, "holey")
    surface = features.surface
    values = {n: getattr(features, n) for n in Features.__dataclass_fields__ if n != "surface"}
    fewer = dataclasses.replace(
        surface.balls,
        centres=surface.balls.centres[1:],
        offsets=surface.balls.offsets[1:] - surface.balls.offsets[1],
        members=surface.balls.members[surface.balls.offsets[1] :],
        distances=surface.balls.distances[surface.balls.offsets[1] :],
    )
    with pytest.raises(FeatureError, match="holey: a dominant vertex has no ball"):
        Features(**values, surface=dataclasses.replace(surface, balls=fewer))


def test_grids_of_different_sides_are_refused(make_features):
    fine, small = make_features(1, "fine"), make_features(2, "coarse")
    cut = Features("coarse", Letterbox(200, 120, side=6, cell_size=20), np.ones((6, 6), bool), 80.0, small.sources)
    with pytest.raises(FeatureError, match="fine and coarse are described on grids of side 12 and 6"):
        match_pair(Described(fine, MatchConfig()), Described(cut, MatchConfig()), "toy", MatchConfig())


def test_pairs_are_cheap_to_cache(make_features):
    image = Described(make_features(1), MatchConfig())
    balls = image.mesh.surface.balls
    assert image.n_bytes > image.dense.nbytes + balls.members.nbytes + image.mesh.queries.nbytes


def test_the_worse_mask_of_a_pair_is_told(make_features):
    clean, doubtful = (
        Described(dataclasses.replace(make_features(i, f"i{i}"), mask_signs=signs), MatchConfig()) for i, signs in ((1, 0), (2, 2))
    )
    found = [match_pair(*pair, "toy", MatchConfig()).mask_signs for pair in ((clean, clean), (clean, doubtful), (doubtful, clean))]
    assert found == [0, 2, 2]
