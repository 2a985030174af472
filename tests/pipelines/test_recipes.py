"""What is made again when something changes: the artefacts that depend on it, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.stages.describe import DescribeStage
from pipelines.stages.embed import EmbedStage
from pipelines.stages.label import LabelStage
from pipelines.stages.match import MatchStage
from pipelines.stages.orient import OrientStage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config_file import load_config

STAGES = (ReconstructStage, OrientStage, DescribeStage, EmbedStage, MatchStage, LabelStage)


def recipes(*overrides: str) -> dict[str, str]:
    return {kind.name: kind(load_config(overrides=list(overrides))).recipe for kind in STAGES}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name, recipe in before.items() if after[name] != recipe}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("label.tau_geo=0.02", {"label"}),
        ("match.alpha=0.4", {"match", "label"}),
        ("describe.ball_radius=0.5", {"describe", "embed", "match", "label"}),
        ("orient.views=16", {"orient", "describe", "embed", "match", "label"}),
        ("reconstruct.align.dilation=3", {kind.name for kind in STAGES}),
        ("ray.workers=7", set()),
        ("run=elsewhere", set()),
    ],
)
def test_an_option_changes_what_depends_on_it(override: str, expected: set[str]) -> None:
    assert changed(recipes(), recipes(override)) == expected


def test_other_weights_change_their_model_s_dependants_alone(tmp_path: Path) -> None:
    weights = tmp_path / "model_objaverse.ckpt"
    options = ("describe.shape=partfield", f"models.partfield={tmp_path}")
    weights.write_bytes(b"some weights")
    before = recipes(*options)
    weights.write_bytes(b"others")
    assert changed(before, recipes(*options)) == {"describe", "embed", "match", "label"}
    weights.write_bytes(b"some weights")
    assert recipes(*options) == before
