"""tau_geo at a wanted precision without annotation: from stored matches alone, into a configuration to label with."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
import yaml
from report_run import Made

from pipelines.jobs import sweep
from pipelines.report.search import BEST_CYCLES, FOUND_CYCLES
from sc3d.config import RunConfig
from sc3d.config_file import load_config, to_values
from sc3d.console import PlainConsole
from sc3d.errors import ConfigError, InputError
from sc3d.matching.thresholds import apply_thresholds
from sc3d.records import VALIDATION_SPLIT

TAUS = (0.05, 0.1, 0.2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two categories of five images, each with its ten pairs; none is annotated for validation."""
    return Made.labelled(tmp_path_factory.mktemp("cycles"), images=5)


def searched(made: Made, **options: object) -> tuple[RunConfig, str]:
    """The configuration, and what was printed."""
    config = dataclasses.replace(made.config, sweep=dataclasses.replace(made.config.sweep, tau_geo=TAUS, **options))
    printed = io.StringIO()
    sweep.run(config, PlainConsole(file=printed, width=200, soft_wrap=True))
    return config, printed.getvalue()


def test_without_annotation_the_widest_threshold_that_is_precise_enough_is_written(made: Made, tmp_path: Path) -> None:
    assert all(pair.split != VALIDATION_SPLIT for pair in made.pairs)
    config, printed = searched(made, precision=1e-6)
    found = made.run.read_json(FOUND_CYCLES)
    assert [row["tau_geo"] for row in found["rows"]] == [0.05, 0.1, 0.2]
    assert set(found["categories"]) == {"blob", "bump"}
    assert [row["present"] for row in found["rows"]] == [True, False, False]
    for row in found["rows"]:
        assert 0 <= row["low"] <= row["wrong"] <= row["high"] <= 1
        assert row["triangles"] <= 2 * 30, "each of 20 pairs comes back by three other images"
        assert row["chains"] > 100
        kept = [apply_thresholds(m, dataclasses.replace(config.label, tau_geo=row["tau_geo"])).n_kept for m in made.matches]
        assert row["labels"] == pytest.approx(sum(kept) / len(kept))
    assert found["best"] == 0.2
    assert "tau_geo 0.2 is the widest with 0.0% right labels" in printed
    best = tmp_path / "best.yaml"
    best.write_bytes(made.run.read_bytes(BEST_CYCLES))
    assert yaml.safe_load(best.read_text()) == {"label": {"tau_geo": 0.2}}
    assert load_config(best, defaults=to_values(config)).label.tau_geo == 0.2
    page = made.run.read_bytes("report/search.html").decode()
    assert "Thresholds without annotation" in page
    assert f"{made.run.uri}/{BEST_CYCLES}" in page


def test_where_none_is_precise_enough_it_says_what_was_reached(made: Made) -> None:
    searched(made, precision=1e-6)
    _, printed = searched(made, precision=0.9999)
    found = made.run.read_json(FOUND_CYCLES)
    assert found["best"] is None
    assert not made.run.exists(BEST_CYCLES), "the one of another precision is gone"
    reached = 1 - found["rows"][0]["high"]
    assert f"No threshold is known to have 100.0% right labels: at tau_geo 0.05 at least {reached:.1%} are" in printed
    assert "No threshold is known to reach 99.99 %" in made.run.read_bytes("report/search.html").decode()


def test_a_plan_without_triangles_is_told(tmp_path: Path) -> None:
    few = Made.labelled(tmp_path, images=3)
    with pytest.raises(InputError, match=r"6 triangles of images A, B, C .*pairs\.targets"):
        searched(few)
    assert not few.run.exists(FOUND_CYCLES)


def test_thresholds_beyond_what_is_stored_are_refused(made: Made) -> None:
    config = dataclasses.replace(made.config, sweep=dataclasses.replace(made.config.sweep, tau_geo=(0.05, 0.3)))
    with pytest.raises(ConfigError, match=r"sweep.tau_geo = 0.3 is wider than what is stored"):
        sweep.run(config)
