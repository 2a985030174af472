"""Each command, option and make target that the documentation names exists: README and docs are parsed, and so are messages in code."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pipelines.cli import app
from sc3d.config import RunConfig
from sc3d.config_file import flat_values

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "tests" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = [path for room in ("sc3d", "actors", "pipelines", "training", "cluster") for path in sorted((ROOT / room).rglob("*.py"))]
COMMANDS: Any = typer.main.get_command(app)
# Options of other programs that prose names by themselves: of `ray job submit`, `python -m cluster.local`, `python -m benchmarks truth`.
FOREIGN = {
    *("--entrypoint-num-cpus", "--entrypoint-resources", "--working-dir"),
    *("--no-dashboard", "--gpus", "--resource"),
    "--parts",
}
# Options that hold what their users name.
OPEN = ("ray.pools.", "sweep.space")
OPTIONS = flat_values(RunConfig())
STAGES = {name.partition(".")[0] for name in OPTIONS if "." in name}


def code_of(text: str) -> Iterator[str]:
    """Commands in fenced blocks, a line each without comments, and what stands between back quotes in prose."""
    parts = re.split(r"^```\w*\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    for number, part in enumerate(parts):
        if number % 2:
            whole = re.sub(r"\\\n\s*", " ", part)
            yield from (piece for line in whole.splitlines() for piece in re.split(r"&&|;|\|", re.sub(r"(^|\s)#.*", "", line)))
        else:
            yield from (" ".join(found.split()) for found in re.findall(r"`([^`]+)`", part))


def words_after(code: str, program: str) -> list[str] | None:
    """The arguments of a program's call in a piece of code, if there is one."""
    try:
        words = shlex.split(code)
    except ValueError:
        words = code.split()
    if program == "sc3d" and "pipelines.cli" in words:
        return words[words.index("pipelines.cli") + 1 :]
    # Behind what starts it: a loop, or settings of the environment.
    while words and (words[0] == "do" or re.match(r"[A-Z_]+=", words[0])):
        words = words[1:]
    return words[1:] if words and (words[0] == program or words[0].endswith(f"/bin/{program}")) else None


def wrong_with(words: list[str]) -> str:
    """What is wrong with the arguments of ``sc3d``; empty if they fit."""
    command, rest = COMMANDS, words
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            return f"no command {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    known = {name for part in command.params for name in (*part.opts, *part.secondary_opts)} | {"--help", "-h"}
    for place, word in enumerate(rest):
        name, _, value = word.partition("=")
        if word.startswith("--") and name not in known:
            return f"no option {name}"
        if word == "--set" and place + 1 < len(rest):
            value = rest[place + 1]
            if value != "..." and not is_option(value.partition("=")[0]):
                return f"no option {value} to set"
    return ""


def is_option(name: str) -> bool:
    """Whether there is an option, or a stage, of a name; ``models.<name>`` stands for any of a stage."""
    stage, _, option = name.partition(".")
    return (
        name in OPTIONS
        or name in STAGES
        or name.startswith(OPEN)
        or (stage in STAGES and option.startswith(("<", "...")))
        or (any(one.startswith(f"{name}.") for one in OPTIONS))
    )


def calls(program: str) -> list[tuple[str, list[str]]]:
    return [
        (path.name, words)
        for path in DOCUMENTS
        for code in code_of(path.read_text(encoding="utf-8"))
        if (words := words_after(code, program)) is not None
    ]


def test_every_command_is_one_with_such_options() -> None:
    found = [(where, words) for where, words in calls("sc3d") if words]
    assert len(found) > 80
    assert [f"{where}: sc3d {shlex.join(words)}: {wrong}" for where, words in found if (wrong := wrong_with(words))] == []
    assert {words[0] for _, words in found} >= set(COMMANDS.commands) - {"export", "import"}


def test_every_make_target_is_one() -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for _, words in calls("make") for word in words[:1]}
    assert {"demo", "test"} <= named
    assert named <= targets
    assert set(re.findall(r"make ([a-z-]+)  ", (ROOT / "Makefile").read_text())) <= targets


def test_every_module_that_is_run_is_there() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    modules = set(re.findall(r"python -m ((?:sc3d|actors|pipelines|training|cluster|benchmarks|tests)[\w.]*)", text))
    assert "benchmarks" in modules
    assert {name for name in modules if not runnable(name.rstrip("."))} == set()


def runnable(module: str) -> bool:
    path = ROOT / module.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file() or importlib.util.find_spec(module) is not None


def test_options_that_prose_names_exist() -> None:
    """``--option`` by itself belongs to some command, ``stage.option`` to the configuration."""
    known = {name for command in all_commands(COMMANDS) for part in command.params for name in part.opts} | FOREIGN | {"--help"}
    wrong = []
    for path in DOCUMENTS:
        for code in code_of(path.read_text(encoding="utf-8")):
            first = code.split()[0] if code.split() else ""
            if re.fullmatch(r"--[a-z-]+(=.*)?", first) and len(code.split()) < 4 and first.partition("=")[0] not in known:
                wrong.append(f"{path.name}: {code}")
            name = re.fullmatch(r"(?:--set )?([a-z_]+\.[a-z_0-9.]+)(?: ?=.*)?", code)
            if name and name[1].partition(".")[0] in STAGES and not is_option(name[1].rstrip(".")) and not is_file(name[1]):
                wrong.append(f"{path.name}: {code}")
    assert wrong == [], "; ".join(wrong)


def is_file(name: str) -> bool:
    return name.endswith((".py", ".json", ".yaml", ".parquet", ".html", ".safetensors", ".csv", ".txt"))


def all_commands(command: Any) -> Iterator[Any]:
    yield command
    for one in getattr(command, "commands", {}).values():
        yield from all_commands(one)


def test_options_that_messages_ask_to_set_exist() -> None:
    named = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in SOURCES
        for name in re.findall(r"--set ([a-z_]+\.[a-z_0-9.]+)=", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 5
    assert {(where, name) for where, name in named if not is_option(name) and name != "stage.option"} == set()


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("label --images x --set match.alpha=0.4", ""),
        ("labell", "no command labell"),
        ("export labells OUT", "no command labells"),
        ("label --image x", "no option --image"),
        ("label --set match.alpah=0.4", "no option match.alpah=0.4 to set"),
        ("status --jsn", "no option --jsn"),
    ],
)
def test_the_check_itself_finds_what_is_wrong(words: str, wrong: str) -> None:
    assert wrong_with(words.split()) == wrong
