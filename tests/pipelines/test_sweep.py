"""The sweep over weights and thresholds: the numbers of evaluating each setting alone, the best one first, and nothing twice."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import yaml

from pipelines import sweep
from pipelines.describe import DescribeStage
from sc3d.config import LabelConfig, RunConfig, SweepConfig
from sc3d.config_file import load_config, to_values
from sc3d.errors import InputError
from sc3d.evaluation.filter_quality import filter_quality
from sc3d.matching.described import Described
from sc3d.store import RunFolder


@pytest.fixture(scope="module")
def swept(finished: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, list[dict[str, float]]]:
    folder = tmp_path_factory.mktemp("sweep") / "run"
    shutil.copytree(finished.run, folder)
    config = dataclasses.replace(finished, run=str(folder))
    return config, sweep.run(config)


def test_every_setting_has_the_numbers_of_being_run_alone(swept: tuple[RunConfig, list[dict[str, float]]]) -> None:
    config, rows = swept
    from pipelines.image_manifest import ImageManifest

    records, describe = ImageManifest(RunFolder(config.run)), DescribeStage(config)
    pairs = sweep.validation_pairs(config)
    assert len(rows) == len(sweep.weight_grid(2, config.match)) * 3 * 4
    for row in rows[:: len(rows) // 5]:
        match = dataclasses.replace(config.match, alpha=row["alpha"], beta=row["beta"])
        label = LabelConfig(row["tau_cc"], row["tau_geo"])
        kept = judged = wrong = 0
        for pair in pairs:
            sides = [Described(describe.read_features(i), match) for i in (pair.source_id, pair.target_id)]
            counts = filter_quality(sides[0], sides[1], (records[pair.source_id], records[pair.target_id]), label, "x")
            geodesic = next(c for c in counts if c.filter == "cycle + geodesic")
            kept, judged, wrong = kept + geodesic.kept, judged + geodesic.judged, wrong + geodesic.wrong
        assert row["kept"] == pytest.approx(kept / len(pairs))
        assert row["judged"] == judged
        assert row["fpr"] == (pytest.approx(wrong / judged) if judged else None)


def test_the_best_setting_is_a_configuration_to_label_with(swept: tuple[RunConfig, list[dict[str, float]]], tmp_path: Path) -> None:
    config, rows = swept
    best = tmp_path / "best.yaml"
    best.write_bytes(RunFolder(config.run).read_bytes(sweep.BEST))
    assert set(yaml.safe_load(best.read_text())) == {"match", "label"}
    chosen = load_config(best, defaults=to_values(config))
    assert chosen.match.alpha == rows[0]["alpha"]
    assert chosen.label.tau_geo == rows[0]["tau_geo"]


def test_a_finished_sweep_evaluates_nothing_again(
    swept: tuple[RunConfig, list[dict[str, float]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, rows = swept
    monkeypatch.setattr("pipelines.execute._execute", lambda *_: pytest.fail("evaluated again"))
    assert sweep.run(config) == rows
    ranked = sweep.run(dataclasses.replace(config, sweep=dataclasses.replace(config.sweep, labels=1e9)))
    assert ranked != rows, "another objective ranks the stored counts anew"


def test_a_pair_that_cannot_be_evaluated_is_a_reject(swept: tuple[RunConfig, list[dict[str, float]]], tmp_path: Path) -> None:
    shutil.copytree(swept[0].run, tmp_path / "run")
    # A threshold beyond what the geodesic balls decide; so the counts are others than those that are there.
    config = dataclasses.replace(
        swept[0], run=str(tmp_path / "run"), sweep=dataclasses.replace(swept[0].sweep, tau_geo=(0.05, 0.9)), max_reject_fraction=1.0
    )
    with pytest.raises(InputError, match=r"none of the annotated validation pairs .* rejects/sweep"):
        sweep.run(config)
    reasons = {reject.message for reject in sweep.SweepStage(config).artefacts.rejects()}
    assert len(reasons) > 0
    assert all("geodesic balls reach" in reason for reason in reasons)


def test_settings_that_keep_too_few_labels_come_after_those_that_keep_enough() -> None:
    config = RunConfig()
    own = {"alpha": 1 / 2, "beta": 1 / 3, "tau_cc": 0.05, "tau_geo": 0.05}
    rows = [
        {**own, "fpr": 0.2, "kept": 100.0},
        {**own, "tau_geo": 0.02, "fpr": 0.0, "kept": 10.0},
        {**own, "tau_geo": 0.08, "fpr": 0.1, "kept": 120.0},
        {**own, "tau_geo": 0.01, "fpr": None, "kept": 0.0},
    ]
    assert [row["kept"] for row in sweep.rank(rows, config)] == [120.0, 100.0, 10.0, 0.0]
    wanted = dataclasses.replace(config, sweep=SweepConfig(labels=110.0))
    assert [row["kept"] for row in sweep.rank(rows, wanted)] == [120.0, 100.0, 10.0, 0.0]
    wanted = dataclasses.replace(config, sweep=SweepConfig(labels=5.0))
    assert [row["kept"] for row in sweep.rank(rows, wanted)] == [10.0, 120.0, 100.0, 0.0]
