"""Labels are not made of photos whose masks are likely bad, unless they are asked for."""

from __future__ import annotations

import dataclasses

import pytest
from label_run import SIZES, make_labels

from pipelines.stages.describe import DescribeStage
from pipelines.stages.label import LabelStage
from pipelines.stages.match import MatchStage
from sc3d.config_file import load_config, to_values
from sc3d.records import ImageRecord, Matches


@pytest.mark.parametrize("most", range(4))
@pytest.mark.parametrize("signs", range(4))
def test_a_pair_with_too_many_signs_of_a_bad_mask_has_no_labels(most: int, signs: int) -> None:
    images = [ImageRecord(f"bus-{i}", f"{i}.jpg", "bus") for i in range(2)]
    labels = make_labels(images[0], images[1], SIZES[:2], 20)
    values = {name: getattr(labels, name) for name in (field.name for field in dataclasses.fields(Matches))}
    stage = LabelStage(load_config(None, [f"label.max_mask_signs={most}"]))
    found = stage.finish({"matches": Matches(**{**values, "mask_signs": signs})}, 0.0)
    assert found.n_kept == len(found.cosine) == (20 if signs <= most else 0)
    assert found.n_candidates == labels.n_candidates


def test_other_limits_do_not_match_again() -> None:
    strict, lenient = (LabelStage(load_config(None, [f"label.max_mask_signs={most}"])) for most in (0, 3))
    assert strict.recipe != lenient.recipe
    for kind in (MatchStage, DescribeStage):
        assert strict.other(kind).recipe == lenient.other(kind).recipe


def test_the_limit_is_taken_over_by_later_commands() -> None:
    config = load_config(None, ["label.max_mask_signs=2"])
    assert load_config(None, [], to_values(config)).label.max_mask_signs == 2
