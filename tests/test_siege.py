"""A short siege: see tests/siege.py. Whatever is done to runs, nothing is lost, doubled or different."""

from __future__ import annotations

from pathlib import Path

import pytest
from siege import STORES, Result, besiege
from siege_commands import COMMANDS


def hold(rounds: int, seed: int, store: str, work: Path, command: str = "label", each: bool = False, small: bool = False) -> Result:
    found = besiege(rounds, seed, store, work, lambda line: None, command, each, small)
    assert (found.lost, found.doubled, found.different, found.hung, found.wordless, found.notes) == (0, 0, 0, 0, 0, [])
    return found


@pytest.mark.timeout(1500)
def test_a_run_that_is_frozen_until_another_one_has_its_folder(tmp_path: Path) -> None:
    """With this seed, and little else."""
    assert hold(1, 5090, "disk", tmp_path, small=True).disturbances["freeze"] == 1


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("store", STORES)
def test_what_else_days_may_bring(store: str, tmp_path: Path) -> None:
    assert sum(hold(4, 1, store, tmp_path).disturbances.values()) >= 4


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "label"])
def test_each_command_whose_parts_die_says_so_and_goes_on(command: str, tmp_path: Path) -> None:
    """The raylet, the GCS, the driver, a worker: what the command makes in the end is what it makes undisturbed."""
    found = hold(1, 1, "disk", tmp_path, command, each=True)
    assert sum(found.disturbances.values()) >= 2
