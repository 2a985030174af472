"""Labels are not made of photos whose masks are likely bad, unless they are asked for."""

import dataclasses

import pytest
from commit_rows import commit_rows
from label_run import make_run, stored

from pipelines.folder.manifest import read_images
from pipelines.stages.label import LabelStage, doubtful_masks
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config_file import load_config, to_values
from sc3d.mask_signs import ALL_ROUND, IN_PIECES, LOW_CONTRAST
from sc3d.records import Matches


@pytest.fixture
def flagged(tmp_path):
    """The labels of a run, and the configuration of reconstructions in which bus-1 has one sign and bus-2 two."""
    config = make_run(str(tmp_path / "run"), tmp_path / "photos", categories=("bus",))
    before = ReconstructStage(config).catalogue().read_all()
    signs = {"bus-1": ("occluded", LOW_CONTRAST), "bus-2": (ALL_ROUND, IN_PIECES, "low_iou"), "bus-3": ("low_iou",)}
    other = load_config(None, ["seed=1"], to_values(config))
    commit_rows(ReconstructStage(other), "bus", [row.replace(flags=signs.get(row.image_id, ())) for row in before])
    assert ReconstructStage(other).artefacts.recipe != ReconstructStage(config).artefacts.recipe
    assert len(read_images(LabelStage(config).run)) == 5
    return list(stored(config).values()), other


@pytest.mark.parametrize(("most", "left_out"), [(0, {"bus-1", "bus-2"}), (1, {"bus-2"}), (2, set()), (3, set())])
def test_a_photo_with_too_many_signs_gives_no_labels(flagged, most, left_out):
    labels, config = flagged
    config = load_config(None, [f"label.max_mask_signs={most}"], to_values(config))
    assert doubtful_masks(ReconstructStage(config), most) == left_out
    stage = LabelStage(config)
    names = [field.name for field in dataclasses.fields(Matches)]
    for one in labels:
        matches = Matches(**{name: getattr(one, name) for name in names})
        found = stage.finish({"matches": matches}, 0.0)
        assert found.n_kept == (0 if left_out & {one.source_id, one.target_id} else one.n_kept)
        assert len(found.cosine) == found.n_kept
        assert found.n_candidates == one.n_candidates
    assert any(one.n_kept for one in labels)


def test_thresholds_of_labels_do_not_match_again():
    strict, lenient = (LabelStage(load_config(None, [f"label.max_mask_signs={most}"])) for most in (0, 3))
    assert strict.recipe != lenient.recipe
    assert strict.other(LabelStage.upstream[0]).recipe == lenient.other(LabelStage.upstream[0]).recipe
