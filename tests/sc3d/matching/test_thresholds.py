"""Labels from stored evidence are the labels that matching with the narrower thresholds would give."""

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sc3d.config import LabelConfig, MatchConfig
from sc3d.matching.described import Described
from sc3d.matching.explain import AGREEMENT, explain_pair
from sc3d.matching.filters import keep_geodesic
from sc3d.matching.label import match_pair
from sc3d.matching.thresholds import apply_thresholds
from sc3d.records import Labels
from sc3d.schema import from_table, to_table

COLUMNS = ("source_xy", "target_xy", "cosine", "cycle_error", "geodesic_error")
WIDE = MatchConfig(tau_cc=0.5, tau_geo=0.2)


@given(seed=st.integers(0, 10**6), tau_cc=st.floats(0.01, 0.5), tau_geo=st.floats(0.01, 0.2))
@settings(max_examples=25)
def test_thresholds_commute_with_matching(make_features, seed, tau_cc, tau_geo):
    images = [Described(make_features(seed + i, f"i{i}", n_foreground=100), WIDE) for i in (0, 1)]
    narrow = MatchConfig(tau_cc=tau_cc, tau_geo=tau_geo)
    labels = apply_thresholds(match_pair(*images, "toy", WIDE), LabelConfig(tau_cc=tau_cc, tau_geo=tau_geo))
    direct = match_pair(*images, "toy", narrow)
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(labels, name), getattr(direct, name))
    assert (labels.n_kept, labels.tau_cc, labels.tau_geo) == (len(direct), tau_cc, tau_geo)


def test_equality_with_a_threshold_keeps(make_features):
    images = [Described(make_features(i, f"i{i}", n_foreground=100), WIDE) for i in (0, 1)]
    matches = match_pair(*images, "toy", WIDE)
    at = np.full(len(matches), 0.05, np.float32)
    edge = matches.replace(geodesic_error=at, cycle_error=np.full(len(matches), 0.05 * matches.source_extent, np.float32))
    assert len(matches) > 0
    assert apply_thresholds(edge, LabelConfig(tau_cc=0.05, tau_geo=0.05)).n_kept == len(matches)
    assert apply_thresholds(edge.replace(geodesic_error=at * 1.001), LabelConfig()).n_kept == 0


def test_labels_survive_storage_and_can_be_tightened_again(make_features):
    images = [Described(make_features(i, f"i{i}", n_foreground=100), WIDE) for i in (0, 1)]
    matches = match_pair(*images, "toy", WIDE)
    wide = apply_thresholds(matches, LabelConfig(tau_cc=0.5, tau_geo=0.2))
    [stored] = from_table(Labels, to_table(Labels, [wide]))
    again = apply_thresholds(stored, LabelConfig(tau_cc=0.2, tau_geo=0.1))
    assert again.n_kept == apply_thresholds(matches, LabelConfig(tau_cc=0.2, tau_geo=0.1)).n_kept < wide.n_kept == len(matches)
    assert (again.n_candidates, again.n_cycle) == (matches.n_candidates, matches.n_cycle)


def test_a_pair_gives_labels_only_where_enough_of_its_cells_agree(make_features):
    """Matches count up to 0.05, or up to the threshold where that is less; of stored matches as of all candidates."""
    images = [Described(make_features(i, f"i{i}", n_foreground=100), WIDE) for i in (0, 1)]
    matches = match_pair(*images, "toy", WIDE)
    for label in (LabelConfig(), LabelConfig(tau_cc=0.5, tau_geo=0.2), LabelConfig(tau_geo=0.03)):
        cycle = matches.cycle_error <= max(min(label.tau_cc, 0.05) * matches.source_extent, matches.source_cell) * (1 + 1e-6)
        agreed = (cycle & (matches.geodesic_error <= min(label.tau_geo, 0.05))).sum() / 100
        kept = apply_thresholds(matches, label).n_kept
        assert 0 < agreed < 1
        for least, wanted in ((agreed, kept), (agreed + 0.005, 0)):
            config = dataclasses.replace(label, min_agreement=least)
            assert apply_thresholds(matches, config).n_kept == wanted
            explained = explain_pair(*images, config)
            assert (explained.rejected_by == "").sum() == keep_geodesic(explained, config).sum() == wanted
            assert (explained.rejected_by == AGREEMENT).sum() == kept - wanted
