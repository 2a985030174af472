"""What the command line answers to configurations, files and names that are wrong or hostile: one line, and the right exit code."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from pipelines.cli import RESUMED, app, main
from sc3d import __version__
from sc3d.store import RunFolder

ROOT = Path(__file__).parents[2]
FOR_WORK = {"torch", "scipy", "numba", "open3d", "cv2", "pandas", "ray"}
FOR_RUNS = {"numpy", "pyarrow", "yaml"}


def without_these(refused: set[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """What a command prints in a process of its own, which none of ``refused`` can be imported in: it ends by a traceback then."""
    code = f"import sys\nsys.modules.update(dict.fromkeys({sorted(refused)}))\nfrom pipelines.cli import main\nmain()"
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("label", "--help"), ("view", "--help"), ("export", "--help")])
def test_help_loads_nothing_that_runs_need(arguments: tuple[str, ...]) -> None:
    done = without_these(FOR_WORK | FOR_RUNS, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "sc3d" in done.stdout


def test_status_loads_nothing_that_work_needs(tmp_path: Path) -> None:
    """Not even of a run that has ended, of which it only then looks for what is left over."""
    run = tmp_path / "run"
    stage = {"name": "match", "total": 4, "done": 4, "rejects": 0, "rate": 2.0}
    now = "2026-01-01T00:00:00+00:00"
    status = {"command": "label", "state": "finished", "reason": "", "host": "here", "pid": 1, "started": now, "written": now}
    RunFolder(run).write_json("status.json", {**status, "stages": [stage]})
    as_json = without_these(FOR_WORK, "status", str(run), "--json")
    assert (as_json.returncode, as_json.stderr) == (0, "")
    assert json.loads(as_json.stdout)["state"] == "finished"
    assert "match" in without_these(FOR_WORK, "status", str(run)).stdout


def test_the_list_of_models_loads_nothing_that_work_needs() -> None:
    done = without_these(FOR_WORK, "models", "--json")
    assert (done.returncode, done.stderr) == (0, "")


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    with pytest.raises(SystemExit) as done:
        main(arguments)
    return int(done.value.code or 0), *capsys.readouterr()


@pytest.mark.parametrize(
    "text",
    [
        b"match: [",
        b"- 1",
        b"match: 3",
        b"match: {alpha: [1]}",
        b"match: {alpha: .nan}",
        b"train: {weight_decay: .inf}",
        b"train: {steps: 1" + b"0" * 5000 + b"}",
        b"seed: 1" + b"0" * 30,
        b"seed: 1\nseed: 2",
        b"sweep: {space: " + b"{a: " * 500 + b"1" + b"}" * 500 + b"}",
        b"[" * 100_000,
        b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
        b"a: &a {b: 1}\nmatch: {<<: *a}",
        b"run: !!python/object/apply:os.system ['true']",
        b"seed: 2031-99-99",
        b"# \xe9",
        b"seed: \x00",
        "seed: 1".encode("utf-16"),
        b"#" * 300_000,
    ],
)
def test_a_file_that_is_no_configuration_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: bytes) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(text)
    code, out, err = answer(capsys, "report", "--run", str(tmp_path / "run"), "--config", str(file))
    assert (code, out) == (2, "")
    assert err.startswith(f"error: ConfigError: {file}")
    assert err.count("\n") == 1
    assert len(err) < 2000


@pytest.mark.parametrize(
    "override",
    [
        *("match.alpha", "=1", "match.alpha=[", "match.alpha=a: b: c", "seed=!!int x", "seed=0b_", "seed=*a", "seed=" + "[" * 9999),
        *(".".join("abcdefghijkl") + "=1", "seed=" + "9" * 9999, "seed=-1", "nosuch.one=1", "..=1", "match..alpha=1"),
        "sweep.space=" + "{a: " * 99 + "}" * 99,
    ],
)
def test_an_override_that_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str) -> None:
    code, out, err = answer(capsys, "report", "--run", str(tmp_path / "run"), "--set", override)
    assert (code, out) == (2, "")
    assert err.startswith("error: ConfigError: ")
    assert override.partition("=")[0].partition(".")[0] in err
    assert err.count("\n") == 1
    assert len(err) < 2000


@pytest.mark.parametrize(
    "data", [b"{", b"[]", b'{"schema_version": 1}', b'{"schema_version": 1, "config": 3}', b"[" * 99_999, b"\xe9"]
)
@pytest.mark.parametrize("command", ["report", "status", "show", "rejects"])
def test_a_note_of_a_run_that_cannot_be_read_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, data: bytes
) -> None:
    (tmp_path / "run.json").write_bytes(data)
    code, out, err = answer(capsys, command, "--run", str(tmp_path))
    assert (code, out) == (1, "")
    assert err.startswith(f"error: SchemaError: {tmp_path}/run.json")
    assert err.count("\n") == 1


def test_a_hostile_name_in_an_error_is_written_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = f"{tmp_path}/a[/b]\x1b[31m\r\u202e\nerror: all is well"
    code, out, err = answer(capsys, "status", folder)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert rf"{tmp_path}/a[/b]\x1b[31m\r\u202e error: all is well holds no status" in err
    assert not any(sign in err for sign in "\x1b\r\u202e")


def test_a_warning_about_a_hostile_file_is_written_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # Pytest collects what is logged, so that Python's last resort is not asked: here it is.
    with pytest.raises(SystemExit):
        main(["methods"])
    assert logging.lastResort is not None
    logging.lastResort.handle(logging.LogRecord("sc3d", logging.WARNING, "", 0, "process on %s", ("\x1b]0;x\x07[/b]",), None))
    assert capfd.readouterr().err == "process on \\x1b]0;x\\x07[/b]\n"


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "--version") == (0, f"sc3d {__version__}\n", "")


def test_completion_knows_commands_and_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("_SC3D_COMPLETE", "complete_bash")
    for words, count, wanted in (("sc3d rep", "1", "report"), ("sc3d label --ima", "2", "--images")):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", count)
        assert wanted in answer(capsys)[1].split()


def test_what_a_mistyped_command_or_option_may_have_been_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    for words, wanted in ((["labell"], "label"), (["label", "--imagse", "x"], "--images")):
        code, out, err = answer(capsys, *words)
        assert (code, out) == (2, "")
        assert wanted in err


def test_commands_that_go_on_are_commands() -> None:
    assert set(RESUMED) <= set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


_STOPPED = """
import os, signal, sys
from pipelines import cli
from pipelines.jobs import label

# Whoever starts the tests in the background of a shell has them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)

def run(*_, **__):
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))

label.run = run
cli.main(sys.argv[2:])
"""


@pytest.mark.parametrize(("number", "code", "how"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "stopped")])
def test_a_stopped_command_says_which_one_goes_on(tmp_path: Path, number: str, code: int, how: str) -> None:
    words = ["label", "--run", f"{tmp_path}/my run", "--images", "https://who:secret@host/photos.csv"]
    done = subprocess.run([sys.executable, "-c", _STOPPED, number, *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == code, done.stderr
    *_, last = done.stderr.splitlines()
    command = f"sc3d label --run '{tmp_path}/my run' --images https://host/photos.csv"
    assert last == f"{how}; what is finished is kept, and the same command goes on there: {command}"


def test_what_does_not_go_on_says_nothing_of_that(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.report.models.print_models", interrupt)
    assert answer(capsys, "models") == (130, "", "interrupted\n")
