"""The sweep over weights and thresholds: the numbers of evaluating each setting alone, the best one first, and nothing twice."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipelines.jobs import sweep
from pipelines.report.search import BEST_LABELS, FOUND_LABELS
from pipelines.stages.describe import DescribeStage
from pipelines.stages.sweep import SweepStage, swept_pairs
from pipelines.stages.verifying import described_images
from sc3d.config import LabelConfig, RunConfig, SweepConfig
from sc3d.config_file import load_config, to_values
from sc3d.errors import ConfigError, InputError
from sc3d.evaluation.filter_quality import filter_quality
from sc3d.evaluation.pck import WINDOW, pck, score_pair
from sc3d.evaluation.readout import CellDescriptors
from sc3d.evaluation.setting_counts import SettingCounts
from sc3d.evaluation.setting_rank import collect_rows, pck_of_weights, rank, wanted_labels, weight_grid
from sc3d.matching.fusion import group_weights
from sc3d.store import RunFolder


def run_sweep(config: RunConfig) -> list[dict[str, Any]]:
    """Sweep, and the rows that it leaves: a setting each, the best first."""
    rows: list[dict[str, Any]] = sweep.run(config).read_json(FOUND_LABELS)["rows"]
    return rows


@pytest.fixture(scope="module")
def swept(finished: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, list[dict[str, float]]]:
    folder = tmp_path_factory.mktemp("sweep") / "run"
    shutil.copytree(finished.run, folder)
    config = dataclasses.replace(finished, run=str(folder))
    return config, run_sweep(config)


def test_every_setting_has_the_numbers_of_being_run_alone(swept: tuple[RunConfig, list[dict[str, float]]]) -> None:
    config, rows = swept
    from pipelines.folder.images import ImageManifest

    records, describe = ImageManifest(RunFolder(config.run)), DescribeStage(config)
    pairs = swept_pairs(config)
    assert len(rows) == len(weight_grid(2, config.match)) * 3 * 4
    for row in rows[:: len(rows) // 5]:
        match = dataclasses.replace(config.match, alpha=row["alpha"], beta=row["beta"])
        label = LabelConfig(row["tau_cc"], row["tau_geo"])
        kept = judged = wrong = 0
        for pair in pairs:
            images = described_images(describe, match, cache_mb=100)
            sides = [images.get(i) for i in (pair.source_id, pair.target_id)]
            counts = filter_quality(sides[0], sides[1], (records[pair.source_id], records[pair.target_id]), label, "x")
            geodesic = next(c for c in counts if c.filter == "cycle + geodesic")
            kept, judged, wrong = kept + geodesic.kept, judged + geodesic.judged, wrong + geodesic.wrong
        assert row["kept"] == pytest.approx(kept / len(pairs))
        assert row["judged"] == judged
        assert row["fpr"] == (pytest.approx(wrong / judged) if judged else None)


def test_the_best_setting_is_a_configuration_to_label_with(swept: tuple[RunConfig, list[dict[str, float]]], tmp_path: Path) -> None:
    config, rows = swept
    best = tmp_path / "best.yaml"
    best.write_bytes(RunFolder(config.run).read_bytes(BEST_LABELS))
    assert set(yaml.safe_load(best.read_text())) == {"match", "label"}
    chosen = load_config(best, defaults=to_values(config))
    assert chosen.match.alpha == rows[0]["alpha"]
    assert chosen.label.tau_geo == rows[0]["tau_geo"]


def test_a_finished_sweep_evaluates_nothing_again(
    swept: tuple[RunConfig, list[dict[str, float]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, rows = swept
    monkeypatch.setattr("pipelines.runner.run.GraphRun._on_ray", lambda *_: pytest.fail("evaluated again"))
    assert run_sweep(config) == rows
    ranked = run_sweep(dataclasses.replace(config, sweep=dataclasses.replace(config.sweep, labels=1e9)))
    assert ranked != rows, "another objective ranks the stored counts anew"


def test_a_pair_that_cannot_be_evaluated_is_a_reject(swept: tuple[RunConfig, list[dict[str, float]]], tmp_path: Path) -> None:
    shutil.copytree(swept[0].run, tmp_path / "run")
    # A threshold beyond what the geodesic balls decide; so the counts are others than those that are there.
    config = dataclasses.replace(
        swept[0], run=str(tmp_path / "run"), sweep=dataclasses.replace(swept[0].sweep, tau_geo=(0.05, 0.9)), max_reject_fraction=1.0
    )
    with pytest.raises(InputError, match=r"none of the annotated validation pairs .* rejects/sweep"):
        sweep.run(config)
    reasons = {reject.message for reject in SweepStage(config).rejects()}
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
    assert [row["kept"] for row in rank(rows, config)] == [120.0, 100.0, 10.0, 0.0]
    wanted = dataclasses.replace(config, sweep=SweepConfig(labels=110.0))
    assert [row["kept"] for row in rank(rows, wanted)] == [120.0, 100.0, 10.0, 0.0]
    wanted = dataclasses.replace(config, sweep=SweepConfig(labels=5.0))
    assert [row["kept"] for row in rank(rows, wanted)] == [10.0, 120.0, 100.0, 0.0]


def test_the_page_and_the_rows_are_in_the_run_folder(swept: tuple[RunConfig, list[dict[str, float]]]) -> None:
    # Anew, since another test ranks the same folder by other objectives.
    assert run_sweep(swept[0]) == swept[1]
    run = RunFolder(swept[0].run)
    stored = run.read_json("sweeps/labels.json")
    assert stored["rows"] == swept[1]
    assert sum(row["present"] for row in stored["rows"]) == 1
    page = run.read_bytes("report/search.html").decode()
    assert f"{len(swept[1])} settings" in page
    assert "sc3d label --run" in page


def test_pck_of_each_weights_is_that_of_evaluating_them_alone(
    swept: tuple[RunConfig, list[dict[str, float]]], tmp_path: Path
) -> None:
    from pipelines.folder.images import ImageManifest

    shutil.copytree(swept[0].run, tmp_path / "run")
    options = dataclasses.replace(swept[0].sweep, objective="pck", tau_cc=(0.05,), tau_geo=(0.05,))
    config = dataclasses.replace(swept[0], run=str(tmp_path / "run"), sweep=options)
    rows = run_sweep(config)
    records, describe, pairs = ImageManifest(RunFolder(config.run)), DescribeStage(config), swept_pairs(config)
    assert len({row["pck"] for row in rows}) > 1, "the weights make no difference here"
    for row in rows:
        match = dataclasses.replace(config.match, alpha=row["alpha"], beta=row["beta"])
        scores = []
        for pair in pairs:
            sides = [
                CellDescriptors.of_features(describe.read_features(i), group_weights(match))
                for i in (pair.source_id, pair.target_id)
            ]
            annotated = (records[pair.source_id], records[pair.target_id])
            scores += [s for s in score_pair(*annotated, (sides[0], sides[1]), config.evaluate) if s.method == WINDOW]
        assert row["pck"] == pytest.approx(pck(scores, 0.1)[0], abs=0.02)
    enough = [row for row in rows if row["kept"] >= wanted_labels(rows, config) and row["fpr"] is not None]
    assert rows[0]["pck"] == max(row["pck"] for row in enough)


def _counts(name: str, counts: list[list[int]], points: list[list[int]] | None = None) -> SettingCounts:
    return SettingCounts(name, "car", np.array(counts), None if points is None else np.array(points))


def test_counts_of_pairs_add_up_to_the_objectives() -> None:
    # One weights setting apart from the present one (steps = 1: three corners less the one without 2D features), one threshold each.
    config = RunConfig(sweep=SweepConfig(steps=1, tau_cc=(0.05,), tau_geo=(0.05,), objective="pck"))
    assert [(m.alpha, m.beta) for m in weight_grid(1, config.match)] == [(0.0, 1.0), (1.0, 0.0), (1 / 2, 1 / 3)]
    pairs = [
        _counts("a~b", [[10, 4, 1], [20, 4, 2], [30, 4, 0]], [[1, 4], [4, 4], [2, 4]]),
        _counts("b~a", [[30, 6, 1], [20, 6, 3], [30, 0, 0]], [[1, 2], [1, 2], [1, 2]]),
    ]
    rows = collect_rows(config, pairs)
    assert [row["kept"] for row in rows] == [20, 20, 30]
    assert [row["fpr"] for row in rows] == [2 / 10, 5 / 10, 0 / 4]
    # A mean over pairs, not over points.
    assert [row["pck"] for row in rows] == [(1 / 4 + 1 / 2) / 2, (1 + 1 / 2) / 2, (2 / 4 + 1 / 2) / 2]
    assert [row["present"] for row in rows] == [False, False, True]
    few = dataclasses.replace(config, sweep=dataclasses.replace(config.sweep, labels=15.0))
    assert [row["pck"] for row in rank(rows, few)] == [0.75, 0.5, 0.375]
    by_fpr = dataclasses.replace(config, sweep=dataclasses.replace(few.sweep, objective="fpr"))
    assert [row["fpr"] for row in rank(rows, by_fpr)] == [0.0, 0.2, 0.5]
    assert pck_of_weights([_counts("a~b", [[1, 1, 0]])], 1) == [None]
    assert pck_of_weights([_counts("a~b", [[1, 1, 0]], [[0, 0]]), pairs[0]], 3)[1] == 1.0, "a pair without points does not count"


def test_options_out_of_range_are_refused() -> None:
    for option in (
        "tau_cc=[-0.1]",
        "tau_geo=[]",
        "objective=iou",
        "level=images",
        "trials=0",
        "hours=0",
        "labels=-1",
        "method=grid",
    ):
        with pytest.raises(ConfigError, match=f"sweep.{option.partition('=')[0]}"):
            load_config(None, [f"sweep.{option}"])


def test_a_run_without_annotated_validation_pairs_cannot_be_searched_for_pck_or_an_adapter(
    finished: RunConfig, tmp_path: Path
) -> None:
    from pipelines.folder.manifest import PAIRS
    from sc3d.records import Pair

    shutil.copytree(finished.run, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    pairs = [pair for pair in run.read_records(Pair, PAIRS) if pair.split != "val"]
    run.write_records(Pair, PAIRS, pairs)
    for options in ({"level": "adapter"}, {"objective": "pck"}):
        config = dataclasses.replace(finished, run=run.uri, sweep=dataclasses.replace(finished.sweep, **options))
        with pytest.raises(InputError, match="no annotated validation pairs"):
            sweep.run(config)
