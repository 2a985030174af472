"""``sc3d relabel``: the labels of a fresh run with these thresholds, from the stored evidence alone."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.cli import main
from pipelines.jobs import label, relabel
from pipelines.stages.label import LabelStage
from pipelines.stages.match import MatchStage
from sc3d.config import LabelConfig, RunConfig
from sc3d.errors import InputError
from sc3d.schema import Record
from sc3d.store import RunFolder

TIGHT = LabelConfig(tau_cc=0.04, tau_geo=0.03)


def label_rows(config: RunConfig) -> pa.Table:
    artefacts = LabelStage(config).artefacts
    tables = [artefacts.run.read_table(artefacts.record, name) for name in artefacts.files()]
    return pa.concat_tables(tables).sort_by("pair_id")


@pytest.fixture
def copied(finished: RunConfig, tmp_path: Path) -> RunConfig:
    """The finished run, as a copy to change."""
    shutil.copytree(finished.run, tmp_path / "run")
    return dataclasses.replace(finished, run=str(tmp_path / "run"))


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as done:
        main(["relabel", *arguments])
    return int(done.value.code or 0)


def test_the_labels_are_those_of_a_fresh_run_though_the_images_are_gone(
    copied: RunConfig, finished: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = dataclasses.replace(finished, run=str(tmp_path / "fresh"), label=TIGHT)
    shutil.copytree(finished.run, fresh.run)
    label.run(fresh)
    run = RunFolder(copied.run)
    gone = dataclasses.replace(copied, dataset=dataclasses.replace(copied.dataset, root=str(tmp_path / "gone")))
    stored = run.read_json("run.json")
    run.write_json("run.json", {**stored, "config": {**stored["config"], "dataset": dataclasses.asdict(gone.dataset)}})
    shutil.rmtree(Path(copied.run) / "features")
    shutil.rmtree(Path(copied.run) / "reconstructions")
    monkeypatch.setattr("ray.data.from_items", lambda *_, **__: pytest.fail("Ray was used"))
    before = label_rows(copied)

    assert command("--tau-geo", "0.03", "--tau-cc", "0.04", "--run", copied.run) == 0

    tightened = dataclasses.replace(copied, label=TIGHT)
    assert label_rows(tightened).equals(label_rows(fresh))
    assert label_rows(copied).equals(before)
    assert run.read_json("run.json")["config"]["label"] == dataclasses.asdict(TIGHT)
    assert run.read_json("run.json")["counts"] == stored["counts"]
    after = label_rows(tightened)
    shown = capsys.readouterr().out
    for rows in (before, after):
        assert f"{sum(rows['n_kept'].to_pylist()) / rows.num_rows:,.1f}" in shown
    assert sum(after["n_kept"].to_pylist()) < sum(before["n_kept"].to_pylist())


def test_the_run_keeps_its_thresholds_until_the_new_labels_are_complete(copied: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    finish, calls = LabelStage.finish, []

    def dies(self: LabelStage, *arguments: object) -> object:
        calls.append(1)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return finish(self, *arguments)  # type: ignore[arg-type]

    before = label_rows(copied)
    with monkeypatch.context() as patched:
        patched.setattr(LabelStage, "finish", dies)
        with pytest.raises(KeyboardInterrupt):
            relabel.run(dataclasses.replace(copied, label=TIGHT))
    assert RunFolder(copied.run).read_json("run.json")["config"]["label"] == dataclasses.asdict(LabelConfig())
    assert label_rows(copied).equals(before)
    assert relabel.run(dataclasses.replace(copied, label=TIGHT)).uri == copied.run
    assert RunFolder(copied.run).read_json("run.json")["config"]["label"] == dataclasses.asdict(TIGHT)
    counts = [relabel.count_labels(config) for config in (copied, dataclasses.replace(copied, label=TIGHT))]
    assert [c.pairs for c in counts] == [before.num_rows, before.num_rows]
    assert counts[0].kept == sum(before["n_kept"].to_pylist()) > counts[1].kept > 0


def test_thresholds_wider_than_the_evidence_and_runs_without_any_are_clear_errors(
    copied: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--tau-geo", "0.3", "--run", copied.run) == 2
    assert "label.tau_geo = 0.3 is wider than match.tau_geo = 0.2: nothing beyond that is stored" in capsys.readouterr().err
    assert command("--tau-geo", "0.03", "--run", str(tmp_path / "nowhere")) == 1
    assert "holds no run" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()
    shutil.rmtree(Path(copied.run) / "matches")
    with pytest.raises(InputError, match="run sc3d match first"):
        relabel.run(copied)


def test_a_shard_of_matches_is_read_once_for_its_labels(copied: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = LabelStage(dataclasses.replace(copied, label=TIGHT))
    matched = MatchStage(copied).artefacts
    read: list[str] = []
    read_table = RunFolder.read_table

    def watched(self: RunFolder, record: type[Record], name: str, columns: Sequence[str] | None = None) -> pa.Table:
        read.extend([name] if columns is None else [])
        return read_table(self, record, name, columns)

    monkeypatch.setattr(RunFolder, "read_table", watched)
    relabel.run(dataclasses.replace(copied, label=TIGHT))
    assert sorted(name for name in read if name.startswith("matches/")) == matched.files()
    assert len(stage.artefacts.files()) == len(matched.files())
