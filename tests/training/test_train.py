"""Training on Ray Train: in process, resumed after a cut, and over two workers with the numbers of one."""

import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from sc3d.config_file import load_config
from sc3d.errors import ConfigError, PreflightError, RayDiedError
from sc3d.store import RunFolder
from training.adapter import adapter_metadata, decode_adapter, load_adapter
from training.checkpoint import StepRecord
from training.data import LabelledPairs
from training.job import TrainingData
from training.loop import DivergenceError
from training.train import TrainJob, train
from training.validation import Validation, ValidationPair

CONFIG = dataclasses.replace(
    load_config(None, ["train.preset=3d-sc"]).train,
    steps=8,
    pairs_per_step=2,
    labels_per_pair=20,
    channels=16,
    learning_rate=5e-3,
    dropout=0.2,
    noise=0.1,
    window=0,
    validate_every=4,
)


MakeData = Callable[[], TrainingData]


@pytest.fixture
def make_data(toy_pairs: ModuleType) -> MakeData:
    features = toy_pairs.make_features()
    labels = toy_pairs.make_labels(features)

    def make() -> TrainingData:
        held_out = [r for r in labels if r.pair_id in ("img0~img1", "img2~img1", "img3~img0")]
        pairs = LabelledPairs(labels, features.__getitem__, held_out=[r.pair_id for r in held_out])
        checked = [ValidationPair(r.pair_id, r.source_xy, r.target_xy) for r in held_out]
        return TrainingData(pairs, Validation(checked, pairs.features, CONFIG))

    return make


def _job(make_data: MakeData, folder: Path | str, **changes: object) -> TrainJob:
    job = TrainJob(make_data, CONFIG, seed=0, run=RunFolder(folder), folder="adapters/abc", recipe="feed", checkpoint_every=3)
    return dataclasses.replace(job, **changes)  # type: ignore[arg-type]


def test_local_training_leaves_an_adapter_and_a_second_call_only_reads_it(make_data: MakeData, tmp_path: Path) -> None:
    seen: list[StepRecord] = []
    job = _job(make_data, tmp_path, on_step=seen.append)
    result = train(job)
    assert seen == result.history
    assert [record.step for record in result.validation] == [4, 8]
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


def test_a_run_that_was_cut_goes_on_from_its_checkpoint(make_data: MakeData, tmp_path: Path) -> None:
    def cut(record: StepRecord) -> None:
        if record.step == 5:
            raise _CutError

    with pytest.raises(_CutError):
        train(_job(make_data, tmp_path / "cut", on_step=cut))
    assert not (tmp_path / "cut/adapters/abc/adapter.safetensors").exists()
    steps: list[int] = []
    resumed = train(_job(make_data, tmp_path / "cut", on_step=lambda r: steps.append(r.step)))
    assert steps == [4, 5, 6, 7, 8]
    assert resumed.history == train(_job(make_data, tmp_path / "whole")).history
    first, second = ((tmp_path / n / "adapters/abc/adapter.safetensors").read_bytes() for n in ("cut", "whole"))
    assert first == second


def test_the_best_by_pck_and_by_loss_are_kept_beside_the_latest(make_data: MakeData, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, steps=30, validate_every=2, learning_rate=0.05)
    result = train(_job(make_data, tmp_path, config=config))
    best = {by: (tmp_path / f"adapters/abc/best_{by}.safetensors").read_bytes() for by in ("pck", "loss")}
    scores = {by: adapter_metadata(data)["scores"] for by, data in best.items()}
    assert scores["pck"]["pck"] == max(r.pck for r in result.validation)
    assert scores["loss"]["loss"] == min(r.loss for r in result.validation)
    assert scores["loss"]["step"] in {r.step for r in result.validation}
    # What is kept is the adapter that had the score, not a later one.
    validation = make_data().validation
    assert validation is not None
    for by, data in best.items():
        assert validation.score(decode_adapter(data))._asdict()[by] == pytest.approx(scores[by][by], rel=1e-6)
    assert result.validation[-1].loss > scores["loss"]["loss"], "the learning rate is too tame for this test"


def test_artefacts_on_s3(make_data: MakeData, bucket: str) -> None:
    result = train(_job(make_data, f"{bucket}/run"))
    run = RunFolder(f"{bucket}/run")
    names = [name.removeprefix("adapters/abc/") for name in run.names("adapters")]
    files = [name for name in names if not name.startswith("tensorboard/")]
    assert files == ["adapter.safetensors", "best_loss.safetensors", "best_pck.safetensors", "checkpoint.pt"]
    assert len(names) == len(files) + 1
    assert len(result.history) == 8


@pytest.mark.slow
def test_workers_on_s3_in_a_folder_with_a_space(make_data: MakeData, bucket: str, ray_session: None) -> None:
    """Ray keeps its own state there while they train, and none of it afterwards."""
    result = train(_job(make_data, f"S3{bucket[2:]}/my run", config=dataclasses.replace(CONFIG, workers=1)))
    names = RunFolder(f"{bucket}/my run").names("adapters")
    assert "adapters/abc/adapter.safetensors" in names
    assert not any(name.startswith("adapters/abc/ray/") for name in names)
    assert len(result.history) == 8


@pytest.mark.slow
def test_two_workers_give_the_numbers_of_one_over_fifty_steps(make_data: MakeData, tmp_path: Path, ray_session: None) -> None:
    config = dataclasses.replace(CONFIG, steps=50, validate_every=25)
    seen: list[StepRecord] = []
    alone = train(_job(make_data, tmp_path / "one", config=config))
    together = train(_job(make_data, tmp_path / "two", config=dataclasses.replace(config, workers=2), on_step=seen.append))
    assert len(alone.history) == 50
    np.testing.assert_allclose(np.array(together.history), np.array(alone.history), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.array(together.validation), np.array(alone.validation), rtol=1e-4, atol=1e-4)
    state = together.adapter.state_dict()
    for key, value in alone.adapter.state_dict().items():
        torch.testing.assert_close(state[key], value, rtol=1e-2, atol=2e-3)
    # Every step was told to the process that asked, and nothing of Ray's own is left.
    assert seen == together.history
    assert not [name for name in RunFolder(tmp_path / "two").names("adapters") if "/ray/" in name]


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_the_losses_are_those_of_an_unbroken_run(
    make_data: MakeData, tmp_path: Path, ray_session: None
) -> None:
    flag = tmp_path / "killed"

    def deadly() -> TrainingData:
        data = make_data()
        sample = data.pairs.sample

        def sample_or_die(seed: int, step: int, *rest: Any) -> Any:
            if step == 5 and not flag.exists():
                flag.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return sample(seed, step, *rest)

        data.pairs.sample = sample_or_die  # type: ignore[method-assign]
        return data

    broken = train(_job(deadly, tmp_path / "broken", config=dataclasses.replace(CONFIG, workers=2)))
    assert flag.exists()
    whole = train(_job(make_data, tmp_path / "whole"))
    np.testing.assert_allclose(np.array(broken.history), np.array(whole.history), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_workers_that_die_each_time_are_one_line(make_data: MakeData, tmp_path: Path, ray_session: None) -> None:
    def deadly() -> TrainingData:
        os.kill(os.getpid(), signal.SIGKILL)
        return make_data()

    with pytest.raises(RayDiedError, match=r"died more often .* same command goes on") as told:
        train(_job(deadly, tmp_path, config=dataclasses.replace(CONFIG, workers=2)))
    assert "\n" not in str(told.value)


@pytest.mark.slow
def test_errors_of_workers_arrive_as_they_are(make_data: MakeData, tmp_path: Path, ray_session: None) -> None:
    with pytest.raises(DivergenceError, match="img"):
        train(_job(make_data, tmp_path, config=dataclasses.replace(CONFIG, workers=2, learning_rate=1e30)))


@pytest.mark.slow
def test_more_workers_than_cpus_are_refused_before_anything_starts(make_data: MakeData, tmp_path: Path, ray_session: None) -> None:
    with pytest.raises(PreflightError, match="1000"):
        train(_job(make_data, tmp_path, config=dataclasses.replace(CONFIG, workers=1000)))


def test_a_folder_of_another_configuration_is_refused(make_data: MakeData, tmp_path: Path) -> None:
    train(_job(make_data, tmp_path))
    with pytest.raises(ConfigError, match="steps: 8 -> 9"):
        train(_job(make_data, tmp_path, config=dataclasses.replace(CONFIG, steps=9)))
