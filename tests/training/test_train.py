"""Training on Ray Train: in process, resumed after a cut, and over two workers with the numbers of one."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from sc3d.config import TrainConfig
from sc3d.errors import ConfigError, PreflightError
from sc3d.store import RunFolder
from training.adapter import adapter_metadata, load_adapter
from training.checkpoint import StepRecord
from training.data import LabelledPairs
from training.loop import DivergenceError
from training.train import TrainJob, train

CONFIG = TrainConfig(steps=8, pairs_per_step=2, labels_per_pair=20, channels=16, learning_rate=5e-3, dropout=0.2, noise=0.1)


@pytest.fixture
def make_pairs(toy_pairs: ModuleType) -> Callable[[], LabelledPairs]:
    features = toy_pairs.make_features()
    labels = toy_pairs.make_labels(features)
    return lambda: LabelledPairs(labels, features.__getitem__)


def _job(make_pairs: Callable[[], LabelledPairs], folder: Path | str, **changes: object) -> TrainJob:
    job = TrainJob(make_pairs, CONFIG, seed=0, run=RunFolder(folder), folder="adapters/abc", recipe="feed", checkpoint_every=3)
    return dataclasses.replace(job, **changes)  # type: ignore[arg-type]


def test_local_training_leaves_an_adapter_and_a_second_call_only_reads_it(
    make_pairs: Callable[[], LabelledPairs], tmp_path: Path
) -> None:
    seen: list[StepRecord] = []
    job = _job(make_pairs, tmp_path, on_step=seen.append, validate=lambda a: float(a.channels), validate_every=4)
    result = train(job)
    assert seen == result.history
    assert result.validation == [(4, 16.0), (8, 16.0)]
    path = tmp_path / "adapters/abc/adapter.safetensors"
    saved = load_adapter(path)
    assert all(torch.equal(v, result.adapter.state_dict()[k]) for k, v in saved.state_dict().items())
    metadata = adapter_metadata(path.read_bytes())
    assert metadata == {"feature_dims": [4, 12], "channels": 16, "sources": ["sd.s3", "dino"], "recipe": "feed"}
    seen.clear()
    again = train(job)
    assert seen == []
    assert again.history == result.history


class _CutError(Exception):
    pass


def test_a_run_that_was_cut_goes_on_from_its_checkpoint(make_pairs: Callable[[], LabelledPairs], tmp_path: Path) -> None:
    def cut(record: StepRecord) -> None:
        if record.step == 5:
            raise _CutError

    with pytest.raises(_CutError):
        train(_job(make_pairs, tmp_path / "cut", on_step=cut))
    assert not (tmp_path / "cut/adapters/abc/adapter.safetensors").exists()
    steps: list[int] = []
    resumed = train(_job(make_pairs, tmp_path / "cut", on_step=lambda r: steps.append(r.step)))
    assert steps == [4, 5, 6, 7, 8]
    assert resumed.history == train(_job(make_pairs, tmp_path / "whole")).history
    first, second = ((tmp_path / n / "adapters/abc/adapter.safetensors").read_bytes() for n in ("cut", "whole"))
    assert first == second


def test_artefacts_on_s3(make_pairs: Callable[[], LabelledPairs], bucket: str) -> None:
    result = train(_job(make_pairs, f"{bucket}/run"))
    run = RunFolder(f"{bucket}/run")
    assert run.names("adapters") == ["adapters/abc/adapter.safetensors", "adapters/abc/checkpoint.pt"]
    assert len(result.history) == 8


@pytest.mark.slow
def test_two_workers_give_the_numbers_of_one(make_pairs: Callable[[], LabelledPairs], tmp_path: Path, ray_session: None) -> None:
    alone = train(_job(make_pairs, tmp_path / "one"))
    together = train(_job(make_pairs, tmp_path / "two", config=dataclasses.replace(CONFIG, workers=2)))
    np.testing.assert_allclose(np.array(together.history), np.array(alone.history), rtol=1e-3, atol=1e-4)
    state = together.adapter.state_dict()
    for key, value in alone.adapter.state_dict().items():
        torch.testing.assert_close(state[key], value, rtol=1e-2, atol=2e-3)


@pytest.mark.slow
def test_errors_of_workers_arrive_as_they_are(toy_pairs: ModuleType, tmp_path: Path, ray_session: None) -> None:
    features = toy_pairs.make_features()
    labels = [r.replace(target_xy=np.full_like(r.target_xy, np.nan)) for r in toy_pairs.make_labels(features)]

    def poisoned() -> LabelledPairs:
        return LabelledPairs(labels, features.__getitem__)

    with pytest.raises(DivergenceError, match="img"):
        train(_job(poisoned, tmp_path, config=dataclasses.replace(CONFIG, workers=2)))


@pytest.mark.slow
def test_more_workers_than_cpus_are_refused_before_anything_starts(
    make_pairs: Callable[[], LabelledPairs], tmp_path: Path, ray_session: None
) -> None:
    with pytest.raises(PreflightError, match="1000"):
        train(_job(make_pairs, tmp_path, config=dataclasses.replace(CONFIG, workers=1000)))


def test_a_folder_of_another_configuration_is_refused(make_pairs: Callable[[], LabelledPairs], tmp_path: Path) -> None:
    train(_job(make_pairs, tmp_path))
    with pytest.raises(ConfigError, match="steps: 8 -> 9"):
        train(_job(make_pairs, tmp_path, config=dataclasses.replace(CONFIG, steps=9)))
