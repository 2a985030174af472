"""What made the labels, in words: of every value that an option of the project can have."""

from __future__ import annotations

import typing

import pytest

from actors.registry import SLOTS
from pipelines.jobs.label_means import MEANS, means_of
from sc3d.config.stages import TransferName
from sc3d.config_file import load_config


@pytest.mark.parametrize("option", MEANS)
def test_every_value_has_words(option: str) -> None:
    values = set(typing.get_args(TransferName)) if option == "match.transfer" else set(SLOTS[option])
    assert set(MEANS[option][1]) == values


def test_every_slot_of_the_pipeline_is_named() -> None:
    assert set(SLOTS) - {"represent.depth"} <= set(MEANS)


def test_the_offline_profile_is_hand_made_and_somebody_s_own_model_stands_for_itself() -> None:
    config = load_config(None, ["profile=offline", "describe.shape=mine:Shape"])
    found = dict(means_of(config))
    assert "hand-made" in found["2D features, first half"]
    assert "hand-made" in found["2D features, second half"]
    assert found["3D descriptors"] == "mine:Shape"
    tiny = load_config(None, ["profile=foundation", "models.variant=tiny"])
    assert "mean nothing" in dict(means_of(tiny))["models"]
