"""The table of models and the slots of the pipeline agree, and a model's needs follow the configuration."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
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
from sc3d.config import DescribeConfig, ModelsConfig, OrientConfig, ReconstructConfig, RepresentConfig, RunConfig
from sc3d.config_file import load_config
from sc3d.errors import ConfigError, PreflightError

SECTIONS = {"reconstruct": ReconstructConfig, "orient": OrientConfig, "describe": DescribeConfig, "represent": RepresentConfig}


@pytest.mark.parametrize("slot", SLOTS)
def test_every_value_of_a_slot_has_an_actor(slot: str) -> None:
    section, _, option = slot.partition(".")
    (_, described) = get_args(get_type_hints(SECTIONS[section], include_extras=True)[option])
    for value in SLOTS[slot]:
        assert value in described.description
        actor = actor_of(choosing(slot, value), slot)
        assert issubclass(actor, Actor)
        assert actor.requires is not None
        assert actor.provides


@pytest.mark.parametrize("slot", SLOTS)
def test_actors_of_a_slot_provide_the_same(slot: str) -> None:
    provided = {frozenset(actor_of(choosing(slot, value), slot).provides) for value in SLOTS[slot]}
    assert len(provided) == 1


def test_every_card_selects_something_that_there_is() -> None:
    for card in MODELS:
        for value in card.values:
            assert card.is_selected(choosing(card.slot, value))
            assert SLOTS[card.slot][value] == card.actor
        for option, _ in card.sources:
            assert hasattr(ModelsConfig(), option)
    every = [(card.slot, value) for card in MODELS for value in card.values]
    assert len(set(every)) == len(every), "two models for one value"
    assert {card.option for card in MODELS} >= {"describe.dino=daisy", "reconstruct.mesh=auto|disturbed_truth|inflate"}


def choosing(slot: str, value: str) -> RunConfig:
    """A configuration with a value of a slot, and what that asks for."""
    return load_config(overrides=[f"{slot}={value}", *(["reconstruct.template=toys"] if value == "template" else [])])


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
    with pytest.raises(ConfigError, match=r"describe\.dino.* cannot be loaded: .*pip install 'sc3d\[foundation\]'"):
        actor_of(load_config(overrides=["describe.dino=dinov2"]), "describe.dino")


def test_a_fault_in_our_own_modules_is_not_taken_for_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "actors.foundation.dino", None)
    with pytest.raises(ModuleNotFoundError, match=r"actors\.foundation\.dino"):
        actor_of(load_config(overrides=["describe.dino=dinov2"]), "describe.dino")


@pytest.mark.parametrize("module", ["actors.registry", "actors.catalogue"])
def test_the_tables_are_there_without_what_models_need(module: str) -> None:
    heavy = "sorted(name for name in sys.modules if name.split('.')[0] in ('torch', 'transformers', 'scipy', 'cv2', 'skimage'))"
    loaded = (
        f"import sys, {module}; print({heavy}, [n for n in sys.modules if n.startswith(('actors.offline', 'actors.foundation'))])"
    )
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout == "[] []\n", done.stderr


COLOURS = """
import numpy as np
from actors.base import Actor

class Colours(Actor):
    requires = {"image": "upright RGB"}
    provides = {"dino": "mean colour"}
    version = "colours-1"

    def process(self, row):
        return {"dino": np.zeros((3, 60, 60), np.float16) + row["image"].mean()}

class Unfinished(Actor):
    requires = {}
    provides = {"dino": "nothing"}

class Silent(Actor):
    process = Colours.process

class Nameless(Silent):
    requires, provides = Colours.requires, Colours.provides

def function(row):
    return row
"""


@pytest.fixture
def colours(install: Callable[[str, str, str], Path]) -> None:
    """A feature model of somebody else: a module, and an installed package."""
    install("colours_of_tests", COLOURS, "[sc3d.sources]\ncolours = colours_of_tests:Colours\n")


def chosen(slot: str, value: str) -> type[Actor]:
    return actor_of(load_config(overrides=[f"{slot}={value}"]), slot)


@pytest.mark.usefixtures("colours")
@pytest.mark.parametrize("value", ["colours", "colours_of_tests:Colours"])
def test_a_feature_model_of_ones_own_fills_a_slot(value: str) -> None:
    actor = chosen("describe.dino", value)
    assert actor.__name__ == "Colours"
    config = load_config(overrides=[f"describe.dino={value}"])
    assert actor in DescribeStage(config).actors()
    assert not any(card.is_selected(config) for card in MODELS if card.slot == "describe.dino")


@pytest.mark.usefixtures("colours")
@pytest.mark.parametrize(
    ("slot", "value", "reason"),
    [
        (
            "describe.dino",
            "dinov4",
            r"no value of describe\.dino named 'dinov4' \(did you mean dinov3 .*there are daisy, lite0, .*dinov3, colours;",
        ),
        ("describe.sd", "dinov2", r"no value of describe\.sd named 'dinov2'.*there are hog, lite0, stable_diffusion, dift"),
        ("orient.estimator", "concensus", r"did you mean consensus\?"),
        ("reconstruct.mask", "sam", r"did you mean sam3\?"),
        ("describe.sd", "colours", r"describe\.sd = colours: Colours must also provide sd; it provides dino"),
        ("describe.dino", "colours_of_tests:Unfinished", "with its method process"),
        ("describe.dino", "colours_of_tests:Silent", "Silent must say what it requires, what it provides and its version"),
        ("describe.dino", "colours_of_tests:Nameless", "Nameless must say what it requires, what it provides and its version"),
        ("describe.dino", "colours_of_tests:function", r"must be a subclass of actors\.base\.Actor .*, not <function"),
        ("describe.dino", "colors_of_tests:Colours", "there is no module 'colors_of_tests'; install its package"),
    ],
)
def test_what_cannot_fill_a_slot_says_why(slot: str, value: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        chosen(slot, value)


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
