"""What is wrong with a run is known before anything expensive starts."""

from __future__ import annotations

import re
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.catalogue import gpu_memory_needed
from pipelines.jobs import preflight
from pipelines.jobs.node_check import NodeReport, versions_here
from pipelines.jobs.preflight import check
from pipelines.stages.registry import graphs_of
from sc3d.config import RunConfig
from sc3d.config_file import load_config
from sc3d.errors import ConfigError, InputError, PreflightError, StoreError


@pytest.fixture
def config(tmp_path: Path, toys: Path, configure: Callable[..., RunConfig]) -> RunConfig:
    return configure(tmp_path / "run", toys)


def lines(config: RunConfig) -> str:
    return "\n".join(check(config, graphs_of(config)))


def test_it_says_what_there_is_and_leaves_nothing_behind(config: RunConfig) -> None:
    said = lines(config)
    assert "profile     light" in said
    assert "16 images of 2 categories, 8 to label, 8 held out" in said
    assert "is writable" in said
    assert "EfficientNet-Lite0" in said
    assert [path.name for path in Path(config.run).rglob("*") if path.is_file()] == []


def test_a_rehearsal_and_tiny_models_are_called_so(config: RunConfig, toys: Path, configure: Callable[..., RunConfig]) -> None:
    assert "a rehearsal: nothing is computed" in lines(configure(config.run, toys, "models.variant=none"))
    assert "the labels will mean nothing" in lines(configure(config.run, toys, "models.variant=tiny"))


def test_an_unknown_model_is_named_with_those_that_there_are(
    config: RunConfig, toys: Path, configure: Callable[..., RunConfig]
) -> None:
    with pytest.raises(ConfigError, match="dinov2"):
        lines(configure(config.run, toys, "describe.dino=dinov4"))


def test_no_data_set_and_no_place_to_write(
    config: RunConfig, toys: Path, tmp_path: Path, configure: Callable[..., RunConfig]
) -> None:
    with pytest.raises(InputError, match="nowhere"):
        lines(configure(config.run, tmp_path / "nowhere"))
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError):
        lines(configure(tmp_path / "file" / "run", toys))


def test_a_full_disk(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1, 1, 2**20))
    with pytest.raises(PreflightError, match=r"has 0\.0 GiB free"):
        lines(config)


def test_weights_that_are_not_there_come_with_the_command_that_gets_them(tmp_path: Path, toys: Path) -> None:
    values = [f"run={tmp_path / 'run'}", f"dataset.root={toys}", "dataset.kind=toys", "describe.dino=dinov2"]
    with pytest.raises(PreflightError, match=r"DINOv2.*hf download facebook/dinov2-base"):
        lines(load_config(None, values))


def test_models_that_share_a_gpu_must_fit_it_together() -> None:
    foundation = load_config(None, ["profile=foundation"])
    assert gpu_memory_needed(foundation)
    assert preflight._memory_problems(foundation, [141.0]) == []
    (problem,) = preflight._memory_problems(foundation, [141.0, 8.0])
    assert re.search(r"may share a GPU and need about \d+ GiB, which has 8; .*ray\.pools\.<actor>\.num_gpus", problem)
    node = NodeReport("small", versions_here(), (), 100.0, (8.0,))
    with pytest.raises(PreflightError, match=r"small: .*may share a GPU"):
        preflight._check_nodes(foundation, [node])
    assert preflight._memory_problems(foundation, []) == []


def test_nodes_with_other_versions_are_refused(config: RunConfig) -> None:
    here = versions_here()
    good = NodeReport("good", here, (), 100.0, ())
    assert "2, all with sc3d" in preflight._check_nodes(config, [good, good])[0]
    other = NodeReport("old", {**here, "ray": "1.0"}, (), 100.0, ())
    with pytest.raises(PreflightError, match=r"old has ray 1\.0 \(here .*use one image for all"):
        preflight._check_nodes(config, [good, other])
    lacking = NodeReport("lacking", here, ("DINOv2: hf download facebook/dinov2-base",), 100.0, ())
    with pytest.raises(PreflightError, match="lacking: DINOv2: hf download"):
        preflight._check_nodes(config, [lacking])
    full = NodeReport("full", here, ("only 0.1 GiB are free",), 0.1, ())
    with pytest.raises(PreflightError, match="full: only"):
        preflight._check_nodes(config, [good, full])
