"""``sc3d data``: what is printed, and the exit code."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from dataset_copies import ap10k_entry, write_ap10k, write_photo

from pipelines.cli import main
from pipelines.folder.manifest import read_annotated, read_dataset
from sc3d.config import DatasetConfig, EvaluateConfig, RunConfig
from sc3d.datasets.sources import SOURCES


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["data", *arguments])
    return int(ended.value.code or 0)


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    root = write_ap10k(tmp_path / "ap-10k", {("Felidae", "cat"): [ap10k_entry(i) for i in range(1, 36)]}, crowds=(35,))
    for i in range(1, 35):
        write_photo(root / "data" / f"{i:012d}.jpg", (40, 60))
    return root


def test_the_data_sets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    out = capsys.readouterr().out
    assert all(kind in out for kind in SOURCES)


@pytest.mark.parametrize("kind", list(SOURCES))
def test_how_to_get_one_is_said_and_nothing_fetched(
    kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection was opened"))
    assert run(kind) == 0
    out = capsys.readouterr().out
    assert "1. " in out
    assert "http" in out


def test_a_usable_copy(animals: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ap10k", "--root", str(animals)) == 0
    out = capsys.readouterr().out
    assert f"AP-10K in {animals}" in out
    assert "pairs listed for test         435" in out
    assert "note: 1 images or pairs are left out" in out
    assert f"usable, as --kind ap10k --images {animals}" in out


def test_an_unusable_copy(animals: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (animals / "data" / "000000000007.jpg").unlink()
    assert run("ap10k", "--root", str(animals), "--quick") == 1
    out = capsys.readouterr().out
    assert "error: 1 of 34 photos are missing" in out
    assert "000000000007.jpg" in out
    assert "not usable as it is; to get a whole copy:\n  1. download ap-10k.zip" in out
    assert run("spair", "--root", str(animals / "nowhere")) == 1
    assert "no such folder" in capsys.readouterr().out


def test_a_wrong_subset_is_wrong_usage(animals: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ap10k", "--root", str(animals), "--subset", "cross-planet") == 2
    assert "must be one of intra-species" in capsys.readouterr().err
    assert run("ap10k", "--root", str(animals), "--subset", "cross-family") == 0


def test_a_run_reads_the_same(animals: Path) -> None:
    config = RunConfig(dataset=DatasetConfig(kind="ap10k", root=str(animals)), evaluate=EvaluateConfig(max_pairs_per_category=10))
    images, pairs = read_dataset(config)
    assert len(images) == 34
    assert len(pairs) == 6 + 10  # of the 4 images of val, and of 435
    assert [note.id for note in read_annotated(config).left_out] == ["000000000035"]
