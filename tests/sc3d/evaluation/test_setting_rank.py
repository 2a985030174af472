"""Settings of a search, as their table names them."""

from __future__ import annotations

import numpy as np
import pytest

from sc3d.config_file import load_config
from sc3d.evaluation.setting_counts import SettingCounts
from sc3d.evaluation.setting_rank import collect_rows, weight_grid


@pytest.mark.parametrize("steps", range(1, 13))
def test_weights_are_multiples_of_the_step_and_nothing_beside_them(steps: int) -> None:
    """0, and not what rounding leaves of it."""
    config = load_config(overrides=[f"sweep.steps={steps}", "match.alpha=1", "match.beta=0"])
    settings = len(weight_grid(steps, config.match)) * len(config.sweep.tau_cc) * len(config.sweep.tau_geo)
    rows = collect_rows(config, [SettingCounts("a~b", "car", np.ones((settings, 3), np.int64))])
    assert {round(row["gamma"] * steps) for row in rows} == set(range(steps))
    for row in rows:
        assert row["gamma"] == pytest.approx(round(row["gamma"] * steps) / steps, abs=1e-11)
        assert row["gamma"] == 0 or row["gamma"] > 0.5 / steps
        assert row["alpha"] + row["beta"] + row["gamma"] == pytest.approx(1)
