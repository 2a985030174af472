"""What the demo has to show, with slack: geometry removes wrong matches, and the adapter trained on what is left beats its features."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.jobs import demo
from pipelines.report.metrics import METRICS_FILE
from sc3d.config_file import load_config
from sc3d.store import RunFolder


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    run = tmp_path_factory.mktemp("demo") / "run"
    demo.run(load_config(None, [f"run={run}"], demo.DEFAULTS))
    return RunFolder(run).read_json(METRICS_FILE)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("descriptors", ["2D", "2D + 3D"])
def test_verification_cuts_the_false_positives_at_least_fourfold(metrics: dict[str, Any], descriptors: str) -> None:
    rates = {row["filter"]: row["fpr"] for row in metrics["filters"] if row["descriptors"] == descriptors}
    assert rates["cycle + geodesic"] * 4 <= rates["none"]
    assert rates["cycle + geodesic"] < rates["cycle"] < rates["none"]


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("subset", ["all", "geo-aware"])
@pytest.mark.parametrize("readout", ["nearest", "window soft-argmax"])
def test_the_trained_adapter_is_ahead_of_its_features(metrics: dict[str, Any], subset: str, readout: str) -> None:
    values = {
        row["method"]: row["value"]
        for row in metrics["pck"]
        if (row["alpha"], row["average"], row["subset"]) == (0.1, "image", subset)
    }
    assert values[f"adapter {readout}"] > values[f"zero-shot {readout}"] + 0.01


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_alignment_and_yaw_repair_what_was_disturbed(metrics: dict[str, Any]) -> None:
    assert metrics["alignment"]["iou_after"] > 0.85 > 0.5 > metrics["alignment"]["iou_before"]
    assert metrics["yaw"]["undone"] >= 0.7 * metrics["yaw"]["injected"]
    assert metrics["yaw"]["wrongly_turned"] <= 2
