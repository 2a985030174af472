"""The benchmark runner: what a figure holds, and that a failure is seen without keeping the others from running."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest

import benchmarks
from benchmarks import __main__ as runner


def install(monkeypatch: pytest.MonkeyPatch, **runs: object) -> None:
    for name, run in runs.items():
        module = ModuleType(f"benchmarks.{name}")
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", module)
    monkeypatch.setattr(runner, "available", lambda: tuple(runs))


def test_a_failing_benchmark_is_reported_and_the_next_one_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise RuntimeError("out of luck")

    install(
        monkeypatch, broken=broken, sound=lambda: iter([benchmarks.row("sound", "speed", 12.34567, "ms", "lower", "tortoise", 2.0)])
    )
    assert runner.main(["--json"]) == 1
    out, err = capsys.readouterr()
    figure = json.loads(out)
    assert (figure["value"], figure["ratio"], figure["alternative"]) == (12.35, 2.0, "tortoise")
    assert figure["machine"] == benchmarks.machine_name()
    assert "out of luck" in err
    assert runner.main(["sound"]) == 0
    assert "2.0 times as good as tortoise" in capsys.readouterr().out


def test_an_unknown_name_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    install(monkeypatch, sound=lambda: iter(()))
    with pytest.raises(SystemExit) as stop:
        runner.main(["absent"])
    assert stop.value.code == 2
    assert "absent" in capsys.readouterr().err


def test_figures_say_which_way_is_good() -> None:
    with pytest.raises(ValueError, match="sideways"):
        benchmarks.row("a", "b", 1, "s", "sideways")
    assert "geometry" in runner.available()
