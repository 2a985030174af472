"""What a section asks of Ray, and how it is cut where Ray cannot give all of it at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from actors.base import Resources
from pipelines.runner.graph import Pool, fitting_parts, pools_of
from pipelines.runner.stage import Stage
from pipelines.stages.describe import DescribeStage
from pipelines.stages.match import MatchStage
from pipelines.stages.orient import OrientStage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config import PoolConfig, RayConfig, RunConfig
from sc3d.config_file import load_config
from sc3d.errors import PreflightError


def pool(stage: Stage, position: int, needs: Resources, smallest: int = 1) -> Pool:
    return Pool(stage, position, 0, needs, smallest, 4, bool(needs.num_gpus or needs.custom))


@pytest.fixture
def stages() -> Sequence[Stage]:
    config = RunConfig()
    return ReconstructStage(config), OrientStage(config), DescribeStage(config)


def names(parts: Sequence[Sequence[Pool]]) -> list[list[str]]:
    return [[pool.stage.name for pool in part] for part in parts]


def test_stages_run_side_by_side_as_far_as_the_cluster_reaches(stages: Sequence[Stage]) -> None:
    needs = (Resources(1, 0.5), Resources(1), Resources(1, 0.75))
    pools = [pool(stage, position, need) for position, (stage, need) in enumerate(zip(stages, needs, strict=True))]
    assert names(fitting_parts(pools, {"CPU": 8, "GPU": 2})) == [["reconstruct", "orient", "describe"]]
    assert names(fitting_parts(pools, {"CPU": 8, "GPU": 1})) == [["reconstruct", "orient"], ["describe"]]
    # Tasks give their CPU back, so they need one for all of them; actors keep theirs.
    tasks = [pool(stage, position, Resources(1)) for position, stage in enumerate(stages)]
    assert len(fitting_parts(tasks, {"CPU": 1})) == 1
    assert names(fitting_parts(pools, {"CPU": 2, "GPU": 2})) == [["reconstruct", "orient"], ["describe"]]


def test_a_stage_that_can_never_start_is_refused_with_what_it_lacks(stages: Sequence[Stage]) -> None:
    wants = pool(stages[0], 0, Resources(1, 0.5, {"sam3d": 1}), smallest=4)
    with pytest.raises(PreflightError, match=r"reconstruct needs 2 GPU \(there can be 1\), 4 sam3d \(there can be 0\) at once"):
        fitting_parts([wants], {"CPU": 8, "GPU": 1})


def test_pools_have_the_sizes_and_shares_that_were_asked_for() -> None:
    gpu = load_config(overrides=["match.device=cuda"])
    (default,) = pools_of([MatchStage(gpu)], workers=3)
    assert (default.of_actors, default.smallest, default.largest, default.needs.num_gpus) == (True, 1, 3, 0.5)
    pools = {"MatchOnGpu": PoolConfig(min=2, max=16, num_gpus=0.25)}
    (asked,) = pools_of([MatchStage(dataclasses.replace(gpu, ray=RayConfig(pools=pools)))], workers=3)
    assert (asked.smallest, asked.largest, asked.needs.num_gpus) == (2, 16, 0.25)
