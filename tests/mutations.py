"""Twenty mutations of twenty pure functions, each of which some test has to notice: ``python -m tests.mutations``.

Each is made in a copy of the tree, one after the other, and only the tests that should notice it are run there. Exits with 1 where one is
not noticed, where what it changes is not in the code any more, or where its tests fail without it, so that they say nothing.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_NOTICED = "noticed"
_LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "runs", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")


@dataclass(frozen=True)
class Mutation:
    """In ``file``, ``old`` (which is there once) becomes ``new``; ``tests`` should notice."""

    file: str
    old: str
    new: str
    tests: str


MUTATIONS = (
    Mutation(
        "sc3d/pair_ids.py",
        'return ends["source"], ends["target"]',
        'return ends["target"], ends["source"]',
        "tests/sc3d/test_pair_ids.py",
    ),
    Mutation("sc3d/shards.py", "elif not mine.all():", "elif mine.all():", "tests/sc3d/test_shards.py"),
    Mutation("sc3d/artefacts.py", "if inputs_of.get(id_) == inputs]", "if id_ in inputs_of]", "tests/sc3d/test_artefacts.py"),
    Mutation("sc3d/config_view.py", "if inner not in PLACES}", "}", "tests/sc3d/test_config_view.py"),
    Mutation(
        "sc3d/contents.py",
        "(seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)",
        "(seen.st_size, self.modified, self.changed)",
        "tests/sc3d/test_contents.py",
    ),
    Mutation(
        "sc3d/matching/thresholds.py",
        "return errors <= np.float32(tau)",
        "return errors < np.float32(tau)",
        "tests/sc3d/matching/test_thresholds.py",
    ),
    Mutation(
        "sc3d/matching/fusion.py",
        "return {group: weight / total for",
        "return {group: weight for",
        "tests/sc3d/matching/test_fusion.py",
    ),
    Mutation(
        "sc3d/matching/verify.py",
        "error[open_] = (first[open_] + second) / 2",
        "error[open_] = first[open_]",
        "tests/sc3d/matching/test_label.py",
    ),
    Mutation(
        "sc3d/matching/filters.py",
        "keep_cycle(explanation, config) & (distance <= MAX_POSITION_DISTANCE)",
        "(distance <= MAX_POSITION_DISTANCE)",
        "tests/sc3d/matching/test_filters.py",
    ),
    Mutation(
        "sc3d/evaluation/pck.py",
        "if len(visible.intersection(group)) >= 2 for",
        "if len(visible.intersection(group)) >= 1 for",
        "tests/sc3d/evaluation/test_pck.py",
    ),
    Mutation(
        "sc3d/evaluation/setting_rank.py",
        '"fpr": wrong / judged if judged else None',
        '"fpr": wrong / kept if judged else None',
        "tests/pipelines/jobs/test_sweep.py -k counts_of_pairs",
    ),
    Mutation(
        "sc3d/geometry/camera.py",
        "R=self.R @ yaw_rotation(degrees).T",
        "R=self.R @ yaw_rotation(degrees)",
        "tests/sc3d/geometry/test_camera.py",
    ),
    Mutation("sc3d/grid.py", "self.cell_size + self.cell_size / 2", "self.cell_size", "tests/sc3d/matching/test_label.py"),
    Mutation("sc3d/lease_records.py", ".ljust(_RECORD_BYTES)", "", "tests/sc3d/test_lease_records.py"),
    Mutation(
        "sc3d/schema.py",
        "if version > record.SCHEMA_VERSION:",
        "if version > record.SCHEMA_VERSION + 1:",
        "tests/sc3d/test_schema.py",
    ),
    Mutation("sc3d/plugins.py", "near = did_you_mean(near_names(name, there))", 'near = ""', "tests/sc3d/test_plugins.py"),
    Mutation("actors/base.py", "have |= set(actor.provides)", "have |= set(actor.requires)", "tests/actors/test_base.py"),
    Mutation(
        "training/losses.py",
        "(values * weights).sum() / weights.sum()",
        "(values * weights).mean()",
        "tests/training/test_losses.py",
    ),
    Mutation("training/space.py", "return domain.values.index(value) if", "return value if", "tests/training/test_space.py"),
    Mutation(
        "pipelines/folder/inputs.py",
        "contents.get(value, value) if name in FILES else",
        "value if name in FILES else",
        "tests/pipelines/stages/test_registry.py -k input",
    ),
)


def misplaced() -> list[str]:
    """Mutations whose code is not there, or not once."""
    return [f"{one.file}: {one.old}" for one in MUTATIONS if (ROOT / one.file).read_text().count(one.old) != 1]


def is_noticed(mutation: Mutation, copy: Path) -> bool:
    """Whether its tests fail when it is made in a copy of the tree, which is put right again."""
    file = copy / mutation.file
    before = file.read_text()
    file.write_text(before.replace(mutation.old, mutation.new))
    try:
        return fail(mutation.tests, copy)
    finally:
        file.write_text(before)


def fail(tests: str, copy: Path) -> bool:
    """Whether some tests fail in a copy of the tree as it is. Raises RuntimeError if they cannot be run."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *shlex.split(tests)]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=600)
    # Tests that fail exit with 1; with any other number they did not run.
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{tests}: the tests did not run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 1


def _outcome(mutation: Mutation, copy: Path) -> str:
    if fail(mutation.tests, copy):
        return "TESTS FAIL"
    return _NOTICED if is_noticed(mutation, copy) else "NOT NOTICED"


def main() -> int:
    """Make all mutations; returns how many were not noticed by tests that pass without them."""
    if lost := misplaced():
        sys.stderr.write("not in the code, or not once:\n" + "\n".join(lost) + "\n")
        return len(lost)
    missed = 0
    with tempfile.TemporaryDirectory(prefix="sc3d-mutations-") as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=_LEFT_OUT)
        for mutation in MUTATIONS:
            started = time.monotonic()
            outcome = _outcome(mutation, copy)
            missed += outcome != _NOTICED
            sys.stdout.write(f"{outcome:<11} {time.monotonic() - started:5.1f} s  {mutation.file}\n")
            sys.stdout.flush()
    return missed


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
