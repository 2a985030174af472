"""The folders of Rays: private, and emptied when their run has ended, but never another's or one that is in use."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.folders import KEPT_LOGS, RAY, LockedFolder, clean, end_processes, parent_folder


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    return parent_folder()


def fill(folder: LockedFolder) -> Path:
    """What a Ray leaves, with a link to what is not its own; the folder of its session."""
    session = folder.path / RAY / "session_1"
    for part in ("logs/old", "sockets", "runtime_resources/a"):
        (session / part).mkdir(parents=True)
    (session / "logs" / "raylet.err").write_text("why")
    (session / "gcs_server_port").write_text("1")
    precious = folder.path.parent.parent / "precious"
    precious.mkdir(exist_ok=True)
    (precious / "file").touch()
    (session / "elsewhere").symlink_to(precious)
    (folder.path / RAY / "session_latest").symlink_to(session)
    return session


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_is_closed_to_others_whatever_it_was(parent: Path) -> None:
    assert stat.S_IMODE(parent.stat().st_mode) == 0o700
    parent.chmod(0o777)
    assert stat.S_IMODE(parent_folder().stat().st_mode) == 0o700


def test_what_somebody_else_has_put_there_is_refused(parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent.rmdir()
    (elsewhere := tmp_path / "elsewhere").mkdir()
    parent.symlink_to(elsewhere)
    with pytest.raises(PermissionError, match="set RAY_TMPDIR"):
        parent_folder()
    parent.unlink()
    parent.touch()
    with pytest.raises(PermissionError, match="set RAY_TMPDIR"):
        parent_folder()
    parent.unlink()
    parent.mkdir()
    if os.geteuid() == 0:
        os.chown(parent, 12345, 12345)
        with pytest.raises(PermissionError, match="set RAY_TMPDIR"):
            parent_folder()


def test_an_ended_run_keeps_its_logs_alone(parent: Path, tmp_path: Path) -> None:
    folder = LockedFolder(parent)
    session = fill(folder)
    clean(parent)
    assert len(names(session)) == 5
    folder.release()
    clean(parent)
    assert names(session) == ["logs"]
    assert (session / "logs" / "raylet.err").read_text() == "why"
    assert not (session.parent / "session_latest").is_symlink()
    assert (tmp_path / "precious" / "file").exists()


def test_only_the_logs_of_the_newest_are_kept(parent: Path) -> None:
    made = [LockedFolder(parent) for _ in range(KEPT_LOGS + 3)]
    for number, folder in enumerate(made):
        fill(folder)
        os.utime(folder.path / "lock", (number, number))
        folder.release()
    clean(parent)
    assert names(parent) == sorted(folder.path.name for folder in made[-KEPT_LOGS:])


def test_what_is_not_ours_stays(parent: Path, tmp_path: Path) -> None:
    (parent / "notes").mkdir()
    target = tmp_path / "target"
    (target / RAY / "session_1" / "sockets").mkdir(parents=True)
    (parent / "run-link").symlink_to(target)
    if os.geteuid() == 0:
        (parent / "run-theirs" / RAY / "session_1" / "sockets").mkdir(parents=True)
        os.chown(parent / "run-theirs", 12345, 12345)
    clean(parent)
    assert (target / RAY / "session_1" / "sockets").is_dir()
    assert (parent / "notes").is_dir()
    assert os.geteuid() != 0 or (parent / "run-theirs" / RAY / "session_1" / "sockets").is_dir()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="processes are found on Linux")
def test_what_a_driver_has_started_beside_its_ray_lives_on(parent: Path) -> None:
    folder = LockedFolder(parent)
    session = fill(folder)
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with (folder.path / "driver.err").open("w") as own, (session / "logs" / "worker.out").open("w") as rays:
        beside, worker = (subprocess.Popen(command, stderr=output) for output in (own, rays))
    try:
        folder.release()
        clean(parent)
        assert worker.wait(timeout=20) == -9
        assert beside.poll() is None
    finally:
        beside.kill()
        beside.wait()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="processes are found on Linux")
def test_processes_that_write_into_a_folder_are_ended_and_no_others(tmp_path: Path) -> None:
    (inside := tmp_path / "run-1").mkdir()
    (beside := tmp_path / "run-10").mkdir()
    command = [sys.executable, "-c", f"import time; time.sleep(600)  # {inside}/"]
    outputs = [(inside / "out").open("w"), (beside / "out").open("w")]
    one, other = (subprocess.Popen(command, stdout=output) for output in outputs)
    try:
        assert end_processes(inside)
        assert one.wait(timeout=20) == -9
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
        for output in outputs:
            output.close()
