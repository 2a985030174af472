"""The notebooks run from their first cell to their last, in a folder of their own, and are kept without outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest

NOTEBOOKS = {path.stem: path for path in sorted((Path(__file__).resolve().parents[2] / "docs" / "notebooks").glob("*.ipynb"))}


def code_of(name: str) -> list[str]:
    """The code cells of a notebook, none of which has an output or a line that only Jupyter understands."""
    cells = [cell for cell in json.loads(NOTEBOOKS[name].read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert [cell for cell in cells if cell["outputs"] or cell["execution_count"] is not None] == []
    return ["".join(cell["source"]) for cell in cells]


def run_notebook(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, Any]:
    """Run all cells of a notebook in one namespace, as a kernel does; returns it."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": "__main__"}
    with matplotlib.rc_context({"backend": "agg"}):
        for number, code in enumerate(code_of(name), start=1):
            exec(compile(code, f"{name}, cell {number}", "exec"), names)  # noqa: S102 - the notebook is ours
    return names


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_cells_are_plain_python_without_outputs(name: str) -> None:
    assert len(code_of(name)) >= 5
    for code in code_of(name):
        compile(code, name, "exec")


@pytest.mark.slow
def test_your_own_matches_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run_notebook("verify-your-matches", monkeypatch, tmp_path)
    kept = found["verified"].keep
    assert 400 < len(kept) == len(found["source_xy"])
    assert 0.3 < kept.mean() < 0.6
    assert found["at_random"] < 0.05
    assert found["right"] > 0.8
    assert len(found["figure"].axes) == 4


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_session")
def test_photos_become_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run_notebook("photos-to-labels", monkeypatch, tmp_path)
    assert len(found["photos"]) == 6
    assert len(found["pairs"]) == len(found["labels"]) == 24
    assert 100 < len(found["near"]) < len(found["matches"]) == found["pairs"]["n_kept"].sum()
    assert len(found["best"]) == found["pairs"]["n_kept"].max()
    assert (tmp_path / "runs" / "cars" / "labels").is_dir()
