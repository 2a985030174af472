"""The exit codes are those that README lists, and no code of the project ends a command with another."""

from __future__ import annotations

import ast
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.cli.exit_codes import ExitCode, exit_code_of
from sc3d import errors
from sc3d.errors import ConfigError, RejectBudgetError, Sc3dError

ROOT = Path(__file__).parents[3]
PACKAGES = ("sc3d", "actors", "pipelines", "training", "cluster")
# Processes of their own, whose exit code is not that of a command.
APART = {
    "actors/foundation/orient_anything/serving.py": {1},
    "cluster/local_nodes.py": {0},
    "cluster/watch.py": {1},
}
EXITS = ("exit", "_exit", "SystemExit", "Exit")


def ends(source: str) -> Iterator[object]:
    """What a program's calls that end it, and what it raises to that end, have for an exit code: a number, a name, or none."""
    for node in ast.walk(ast.parse(source)):
        call = node if isinstance(node, ast.Call) else None
        name = call.func if call else node.exc if isinstance(node, ast.Raise) else None
        if (name.attr if isinstance(name, ast.Attribute) else getattr(name, "id", None)) not in EXITS:
            continue
        argument = call.args[0] if call and call.args else None
        yield argument.value if isinstance(argument, ast.Constant) else argument and ast.unparse(argument)


def test_readme_lists_them_all() -> None:
    text = " ".join((ROOT / "README.md").read_text().partition("Exit codes: ")[2].partition("\n\n")[0].split())
    assert [(int(code), meaning) for code, meaning in re.findall(r"(\d+) ([^;.]+)[;.]", text)] == [
        (code.value, code.meaning) for code in ExitCode
    ]


def test_no_code_ends_a_command_with_another() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): set(ends(path.read_text()))
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }
    numbers = {name: codes for name, ends_ in found.items() if (codes := {one for one in ends_ if isinstance(one, int)})}
    assert numbers == APART
    named = {str(one) for ends_ in found.values() for one in ends_ if one is not None and not isinstance(one, int)}
    assert {name for name in named if name.startswith("ExitCode.")} >= {"ExitCode.TERMINATED", "ExitCode.INTERRUPTED"}
    assert {name for name in named if not name.startswith("ExitCode.")} == {"exit_code_of(error)"}


def test_each_error_has_one() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Sc3dError)]
    codes = {kind: exit_code_of(kind("x")) for kind in kinds}
    assert {kind for kind, code in codes.items() if code != ExitCode.CANNOT_GO_ON} == {ConfigError, RejectBudgetError}
    assert codes[ConfigError] == 2
    assert codes[RejectBudgetError] == 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)])
def test_those_of_signals_are_what_shells_expect(number: signal.Signals, code: ExitCode) -> None:
    assert code == 128 + number
