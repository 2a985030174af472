"""The table of models and the slots of the pipeline agree, and a model's needs follow the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, get_args, get_type_hints

import pytest

from actors.base import Actor, Resources, Row
from actors.catalogue import MODELS, availability
from actors.foundation.actor import FoundationActor
from actors.registry import SLOTS, actor_of
from sc3d.config import DescribeConfig, ModelsConfig, OrientConfig, ReconstructConfig, RunConfig
from sc3d.config_file import load_config

SECTIONS = {"reconstruct": ReconstructConfig, "orient": OrientConfig, "describe": DescribeConfig}


@pytest.mark.parametrize("slot", SLOTS)
def test_every_value_of_a_slot_has_an_actor(slot: str) -> None:
    section, _, option = slot.partition(".")
    values = get_args(get_args(get_type_hints(SECTIONS[section], include_extras=True)[option])[0])
    assert set(values) == set(SLOTS[slot])
    for value in values:
        actor = actor_of(load_config(overrides=[f"{slot}={value}"]), slot)
        assert issubclass(actor, Actor)
        assert actor.requires is not None
        assert actor.provides


@pytest.mark.parametrize("slot", SLOTS)
def test_actors_of_a_slot_provide_the_same(slot: str) -> None:
    provided = {frozenset(actor_of(load_config(overrides=[f"{slot}={value}"]), slot).provides) for value in SLOTS[slot]}
    assert len(provided) == 1


def test_every_card_selects_something_that_there_is() -> None:
    selected = set()
    for card in MODELS:
        slot = card.option.partition("=")[0]
        assert set(card.values) <= set(SLOTS[slot])
        selected |= {(slot, value) for value in card.values}
        if card.weights:
            assert hasattr(ModelsConfig(), card.weights)
    # Leaving every mesh as it is takes no model.
    assert {(slot, value) for slot in SLOTS for value in SLOTS[slot]} - selected == {("orient.estimator", "none")}


def test_what_is_missing_says_how_to_get_it(tmp_path: Path) -> None:
    (sam3,) = (card for card in MODELS if card.name == "SAM 3")
    here = availability(sam3, ModelsConfig(sam3="facebook/sam3@" + "0" * 40))
    assert here.weights is None
    for word in ("accept the licence", "hf auth login", "--revision " + "0" * 40):
        assert word in here.problem
    (tmp_path / "model.safetensors").touch()
    found = availability(sam3, ModelsConfig(sam3=str(tmp_path)))
    assert (found.weights, found.problem) == (tmp_path, "")
    assert "is not there" in availability(sam3, ModelsConfig(sam3=str(tmp_path / "other"))).problem
    assert availability(sam3, ModelsConfig(variant="tiny")).problem == ""


class Large(FoundationActor):
    requires: ClassVar = {}
    provides: ClassVar = {"answer": "42"}
    resources = Resources(num_cpus=2, num_gpus=0.5, custom={"sam3d": 1}, environment="other")

    def process(self, row: Row) -> Row:
        return {"answer": 42}


def test_a_model_on_the_cpu_asks_for_no_gpu_and_a_tiny_one_for_no_node_of_its_own() -> None:
    def needs(*overrides: str) -> Resources:
        config: RunConfig = load_config(overrides=overrides)
        return Large.needs(config)

    assert needs() == Large.resources
    assert needs("models.device=cpu") == Resources(2, 0, {"sam3d": 1}, "other")
    assert needs("models.variant=tiny") == Resources(2)
    assert needs("models.variant=tiny", "models.device=cuda") == Large.resources
