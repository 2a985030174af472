"""The gain of adapters over their features: each adapter is compared with the features of its own toys, by the promised names."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import adapter_gain, truth
from sc3d.config import RunConfig
from sc3d.config_file import load_config

FEATURES = {41: np.array([35.0, 28.0, 6.0]), 42: np.array([30.0, 20.0, 3.0])}
ADAPTERS = {
    41: [np.array([37.0, 31.0, 5.0]), np.array([36.0, 29.0, 6.5])],
    42: [np.array([31.0, 22.0, 3.5]), np.array([30.0, 22.0, 3.5])],
}


@pytest.fixture
def without_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """No toys, labels and trainings: a run is its seed, an adapter its number."""

    def trained(config: RunConfig, trainings: int) -> Iterator[int]:
        yield from range(min(trainings, 2))

    def scores(config: RunConfig, describe: object) -> np.ndarray:
        adapter = (describe.__defaults__ or (None,))[0]  # type: ignore[attr-defined]
        return ADAPTERS[config.seed][adapter] if isinstance(adapter, int) else FEATURES[config.seed]

    def labelled(folder: Path, seed: int, *_: object) -> RunConfig:
        return load_config(None, [f"seed={seed}"])

    for name, fake in (("_trained", trained), ("_scores", scores), ("_labelled", labelled)):
        monkeypatch.setattr(adapter_gain, name, fake)


@pytest.mark.usefixtures("without_work")
def test_gains_are_those_over_the_features_of_the_same_toys() -> None:
    found = {one["figure"]: one for one in adapter_gain.run((41, 42), trainings=2)}
    gains = {0.10: [2.0, 1.0, 1.0, 0.0], 0.05: [3.0, 1.0, 2.0, 2.0], 0.01: [-1.0, 0.5, 0.5, 0.5]}
    for alpha, values in gains.items():
        name = f"adapter minus features at {alpha:.2f}"
        assert found[name]["value"] == pytest.approx(np.mean(values), abs=0.01)
        assert found[name]["n"] == 4
        assert found[f"{name}, spread"]["value"] == pytest.approx(np.std(values, ddof=1), abs=0.01)
    assert found["features: PCK@0.05, mixed toys"]["value"] == 24.0


@pytest.mark.usefixtures("without_work")
def test_the_gains_are_a_part_of_truth() -> None:
    figures = [one["figure"] for one in truth.run((41,), parts=["adapter"])]
    assert {f"adapter minus features at {alpha}" for alpha in ("0.10", "0.05", "0.01")} <= set(figures)
