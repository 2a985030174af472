"""The table of models and the slots of the pipeline agree, and a model's needs follow the configuration."""

from __future__ import annotations

import sys
from typing import ClassVar, get_args, get_type_hints

import pytest
import torch

from actors.base import Actor, Resources, Row
from actors.catalogue import MODELS
from actors.foundation.actor import FoundationActor
from actors.registry import SLOTS, actor_of
from pipelines.runner.stage import Stage
from pipelines.stages.describe import DescribeStage
from pipelines.stages.orient import OrientStage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config import DescribeConfig, ModelsConfig, OrientConfig, ReconstructConfig, RunConfig
from sc3d.config_file import load_config
from sc3d.errors import ConfigError, PreflightError

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
        for option, _ in card.sources:
            assert hasattr(ModelsConfig(), option)
    # Leaving every mesh as it is takes no model.
    assert {(slot, value) for slot in SLOTS for value in SLOTS[slot]} - selected == {("orient.estimator", "none")}


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


class Feeder(Large):
    resources = Resources(num_cpus=0.5, num_gpus=0.5)


def test_a_model_that_only_feeds_a_gpu_takes_a_whole_cpu_where_it_computes_on_one() -> None:
    def cpus(*overrides: str) -> float:
        return Feeder.needs(load_config(overrides=overrides)).num_cpus

    assert cpus() == cpus("models.variant=tiny", "models.device=cuda") == 0.5
    assert cpus("models.device=cpu") == cpus("models.variant=tiny") == 1


@pytest.mark.parametrize("stage", [ReconstructStage, OrientStage, DescribeStage])
def test_all_models_of_a_stage_fit_one_gpu_and_a_small_node(stage: type[Stage]) -> None:
    """Their pools are there at the same time: one that finds no place would hold up the run for good."""
    for profile in (["profile=foundation"], ["profile=foundation", "models.sam3d_environment=sc3d-sam3d"]):
        config = load_config(overrides=profile)
        needs = [actor.needs(config) for actor in stage(config).actors()]
        assert sum(need.num_gpus for need in needs) <= 1
        assert sum(need.num_cpus for need in needs if need.num_gpus) <= 2


def test_a_module_that_cannot_be_imported_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SLOTS["describe.dino"], "dinov2", "a_library_that_is_not_installed.dino:DinoV2Source")
    with pytest.raises(ConfigError, match=r"describe\.dino.* cannot be loaded .*pip install 'sc3d\[foundation\]'"):
        actor_of(load_config(overrides=["describe.dino=dinov2"]), "describe.dino")


def test_a_fault_in_our_own_modules_is_not_taken_for_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "actors.foundation.dino", None)
    with pytest.raises(ModuleNotFoundError, match=r"actors\.foundation\.dino"):
        actor_of(load_config(overrides=["describe.dino=dinov2"]), "describe.dino")


class Broken(Large):
    error: ClassVar[Exception]

    def load(self, models: ModelsConfig, device: torch.device) -> None:
        raise self.error


def test_a_model_that_does_not_fit_the_gpu_says_so_before_its_first_row() -> None:
    Broken.error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
    with pytest.raises(
        PreflightError, match=r"Broken does not fit .*Tried to allocate 2\.00 GiB\.\).*ray\.pools\.Broken\.num_gpus.*more memory$"
    ):
        Broken(RunConfig())
    Broken.error = RuntimeError("something else")
    with pytest.raises(RuntimeError, match="something else"):
        Broken(RunConfig())


def test_a_gpu_that_is_asked_for_and_not_there_is_said_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = load_config(overrides=["models.device=cuda", "models.partfield=/nowhere", "describe.shape=partfield"])
    with pytest.raises(ConfigError, match=r"models\.device=cuda, but .*models\.device=auto"):
        actor_of(config, "describe.shape")(config)
