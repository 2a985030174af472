"""What a run has produced so far, as numbers and as a table in the terminal."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
from report_run import CATEGORIES, Made

from pipelines.report.summary import count_meshes, print_labels, summarise
from pipelines.runner.stage import StageSummary
from pipelines.runner.timings import record_summary
from pipelines.stages.describe import DescribeStage
from pipelines.stages.label import LabelStage
from pipelines.stages.match import MatchStage
from pipelines.stages.orient import OrientStage
from pipelines.stages.pairs import IMAGE_READS
from pipelines.stages.reconstruct import ReconstructStage
from pipelines.stages.render import RenderStage
from sc3d.config import RunConfig
from sc3d.config_file import load_config, to_values
from sc3d.console import PlainConsole
from sc3d.records import Reject

STAGES = (ReconstructStage, OrientStage, DescribeStage, MatchStage, LabelStage)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A labelled run with an annotated pair."""
    return Made.labelled(tmp_path_factory.mktemp("full"))


@pytest.fixture
def made(tmp_path: Path) -> Made:
    result = Made(tmp_path)
    result.manifest()
    return result


def printed(config: RunConfig, page: str = "page.html", width: int = 100) -> str:
    stream = io.StringIO()
    print_labels(config, page, PlainConsole(file=stream, width=width))
    return stream.getvalue()


def rows_of(text: str) -> dict[str, str]:
    """First column of the table -> second."""
    found = (
        re.fullmatch(r"([\w,]+(?: \w+)*) {2,}(\S+(?: (?:->|CPU|GPU|s)(?: \S+)?)?) {2,}\S.*", line.rstrip())
        for line in text.splitlines()
    )
    return {line[1]: line[2] for line in found if line}


def test_a_summary_holds_what_counts_of_each_stage(full: Made) -> None:
    summary = summarise(full.config)
    assert [image.image_id for image in summary.images] == list(full.scenes)
    assert {pair.pair_id for pair in summary.pairs} == {pair.pair_id for pair in (*full.pairs, full.unlike)}
    assert [pair.split for pair in summary.annotated] == ["test"]
    assert sorted(summary.reconstructions["image_id"]) == sorted(summary.orientations["image_id"]) == list(full.scenes)
    assert set(summary.orientations["category"]) == set(CATEGORIES)
    expected = {match.pair_id: (match.n_candidates, match.n_cycle) for match in full.matches}
    for columns in (summary.matches, summary.labels):
        counts = zip(columns["n_candidates"].tolist(), columns["n_cycle"].tolist(), strict=True)
        assert dict(zip(columns["pair_id"], counts, strict=True)) == expected
    assert (summary.labels["n_kept"] <= summary.labels["n_cycle"]).all()
    assert [(reject.stage, reject.id) for reject in summary.rejects] == [("label", full.unlike.pair_id)]
    assert (summary.image_rejects, summary.pair_rejects) == (0, 1)


def test_rejects_that_follow_from_others_are_no_further_ones(made: Made) -> None:
    image, pair = made.images[0].image_id, made.pairs[0].pair_id
    made.commit(ReconstructStage, [], [Reject(image, "reconstruct", "InputError", "the file is empty")])
    made.commit(MatchStage, [], [Reject(pair, "match", "UpstreamError", f"image {image} was rejected")])
    summary = summarise(made.config)
    assert len(summary.rejects) == 2
    assert (summary.image_rejects, summary.pair_rejects) == (1, 0)
    text = printed(made.config)
    assert rows_of(text)["rejected"] == "1"
    assert "1 images, 0 pairs; the report says why" in text


def test_an_empty_folder_has_nothing_and_says_so(tmp_path: Path) -> None:
    config = load_config(overrides=[f"run={tmp_path / 'run'}"])
    summary = summarise(config)
    assert (summary.images, summary.pairs, summary.annotated, summary.rejects) == ([], [], [], [])
    for columns in (summary.reconstructions, summary.orientations, summary.matches, summary.labels):
        assert all(len(values) == 0 for values in columns.values())
    assert rows_of(printed(config)) == {"images": "0", "rejected": "0"}
    assert not (tmp_path / "run").exists()


def test_what_lies_about_of_another_configuration_is_not_in_it(full: Made) -> None:
    other = dataclasses.replace(full.config, label=dataclasses.replace(full.config.label, tau_geo=0.01))
    summary = summarise(other)
    assert len(summary.labels["pair_id"]) == 0
    assert len(summary.matches["pair_id"]) == 6


def test_the_table_has_the_numbers(full: Made) -> None:
    summary = summarise(full.config)
    text = printed(full.config, f"{full.config.run}/report/index.html")
    rows = rows_of(text)
    assert rows["images"] == "6"
    assert rows["pairs"] == "6"
    assert rows["labels"] == f"{int(summary.labels['n_kept'].sum()):,}"
    assert rows["labels per pair"] == f"{summary.labels['n_kept'].mean():,.0f}"
    assert rows["candidates"] == f"{int(summary.matches['n_candidates'].sum()):,}"
    assert rows["turned"] == "2"
    assert rows["mesh fit"].endswith(" -> 1.00")
    ends = {
        line.index(value) + len(value) for line in text.splitlines() for name, value in rows.items() if line.startswith(f"{name}  ")
    }
    assert len(ends) == 1, "numbers stand below each other"
    assert f"report: {full.config.run}/report/index.html" in text
    assert f"labels: {full.config.run}/labels/" in text
    assert "nothing was computed" not in text
    assert "features: ImageNet features of EfficientNet-Lite0" in text
    assert "meshes: " in text
    assert "verified by geometry" not in text


def test_meshes_are_counted_by_what_they_are() -> None:
    columns = {"injected_turn": np.array([-1, 0, 90, -1, -1]), "numbering": np.array(["", "", "", "a", "b"])}
    counts = count_meshes(load_config(None, ["reconstruct.mesh=template"]), columns)
    assert counts == {
        "generator's own, disturbed": 2,
        "template, posed in each photo": 2,
        "inflated silhouette, far side unknown": 1,
    }
    assert count_meshes(load_config(), {name: values[:0] for name, values in columns.items()}) == {}


def test_the_table_says_what_pairs_without_labels_lacked(made: Made) -> None:
    made.reconstruct()
    made.describe()
    made.match()
    made.config = dataclasses.replace(made.config, label=dataclasses.replace(made.config.label, min_agreement=1.0))
    made.label()
    text = " ".join(printed(made.config, width=200).split())
    assert "mean; 6 pairs have none: labels need agreement on 100 % of a pair's spots (label.min_agreement)" in text


def test_the_table_says_when_everything_was_there(full: Made) -> None:
    for stage in STAGES:
        assert "nothing was computed" not in printed(full.config), f"before {stage.name} ran again"
        record_summary(full.run, StageSummary(stage.name, 6, 0, 0, 0.1))
    text = printed(full.config, "x", width=60)
    assert "Everything was there already; nothing was computed." in text
    assert rows_of(text)["time"] == "7.5 s"


def test_a_run_with_images_only(made: Made) -> None:
    made.reconstruct()
    text = printed(made.config)
    assert "mesh fit" in text
    assert "labels" not in text
    assert "candidates" not in text


def test_a_page_s_name_is_no_markup(made: Made) -> None:
    text = printed(made.config, "[bold]page[/].html")
    assert rows_of(text)["images"] == "6"
    assert "[bold]page[/].html" in text


def test_costs_are_hours_until_there_are_prices(made: Made) -> None:
    for stage in (ReconstructStage, RenderStage, OrientStage, DescribeStage):
        record_summary(made.run, StageSummary(stage.name, 60, 60, 0, 9.0, cpu_seconds=60 * 3.6, gpu_seconds=60 * 1.8))
    record_summary(made.run, StageSummary(MatchStage.name, 80, 80, 0, 1.0, {IMAGE_READS: 120}, cpu_seconds=80 * 7.2))
    text = printed(made.config)
    assert re.search(r"1,000 images +4 CPU hours and 2 GPU hours +of processes, estimated from 60 images", text)
    assert "1,000 pairs" not in text, "labels were not made yet"
    assert rows_of(text)["reads per pair"] == "1.50"
    assert rows_of(text)["time"] == "37 s"
    record_summary(made.run, StageSummary(LabelStage.name, 80, 80, 0, 1.0))
    priced = load_config(None, ["ray.cpu_hour_price=0.04", "ray.gpu_hour_price=2"], to_values(made.config))
    text = printed(priced)
    # 4 h x 0.04 + 2 h x 2, and 2 h x 0.04.
    assert rows_of(text)["1,000 images"] == "4.16"
    assert rows_of(text)["1,000 pairs"] == "0.08"
    assert "at your prices: 2 CPU hours, estimated from 80 pairs" in text


def test_a_rehearsal_is_called_one_and_has_no_numbers(made: Made) -> None:
    rehearsal = load_config(None, ["models.variant=none"], to_values(made.config))
    text = printed(rehearsal)
    assert "A rehearsal: 0 images and 0 pairs went through actors that do nothing. The labels mean nothing." in text
    assert "images  6" not in text
    assert np.all([name not in rows_of(text) for name in ("images", "labels")])
