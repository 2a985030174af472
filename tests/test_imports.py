"""No module imports itself by way of others, not even by imports inside functions; those for type checkers alone do not count.

import-linter knows nothing of packages whose ``__init__`` imports what imports it, and its contracts speak of siblings: here every module
counts for itself.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("sc3d", "actors", "pipelines", "training", "cluster", "benchmarks")


def module_files(root: Path, package: str) -> dict[str, Path]:
    """Dotted name -> file of every module of a package, which for a package in it is its ``__init__.py``."""
    files = sorted((root / package).rglob("*.py"))
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imported_modules(name: str, file: Path, known: Mapping[str, Path]) -> set[str]:
    """Those of the known modules that a module imports, at any place in its file."""
    return {found for found in _named(name, file, known) if found in known and found != name}


def _named(name: str, file: Path, known: Mapping[str, Path]) -> Iterator[str]:
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    for node in _statements(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            for one in node.names:
                inner = f"{source}.{one.name}"
                yield inner if inner in known else source


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield other
                yield from _statements(other)
        else:
            yield child
            yield from _statements(child)


def find_circle(imports: Mapping[str, set[str]]) -> list[str]:
    """Some modules each of which imports the next one, and the last the first; empty if there are none such."""
    finished: set[str] = set()

    def follow(module: str, way: list[str]) -> list[str]:
        if module in way:
            return [*way[way.index(module) :], module]
        if module not in finished:
            for one in sorted(imports[module]):
                if found := follow(one, [*way, module]):
                    return found
            finished.add(module)
        return []

    return next((found for module in sorted(imports) if (found := follow(module, []))), [])


def circle_of(root: Path, package: str) -> str:
    """A circle of the modules of a package, as text."""
    files = module_files(root, package)
    return " -> ".join(find_circle({name: imported_modules(name, file, files) for name, file in files.items()}))


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_do_not_import_each_other_in_a_circle(package: str) -> None:
    assert circle_of(ROOT, package) == ""


@pytest.mark.parametrize(
    ("files", "circle"),
    [
        ({"a.py": "import p.b", "b.py": "import json"}, ""),
        ({"a.py": "import p.b", "b.py": "def later():\n    from p import a"}, "p.a -> p.b -> p.a"),
        ({"a.py": "from p.b import X", "b.py": "from .c import Y", "c.py": "from . import a"}, "p.a -> p.b -> p.c -> p.a"),
        (
            {"a.py": "from p.q import X", "q/__init__.py": "from p.q.c import X", "q/c.py": "from p import a"},
            "p.a -> p.q -> p.q.c -> p.a",
        ),
        ({"q/__init__.py": "from p.q.c import X", "q/c.py": "from p.q import Y"}, "p.q -> p.q.c -> p.q"),
        ({"q/__init__.py": "from .c import X", "q/c.py": "from ..q.d import Y", "q/d.py": ""}, ""),
        ({"a.py": "import p.b", "b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import p.a"}, ""),
        ({"a.py": "import p.b", "b.py": "if TYPE_CHECKING:\n    X = 1\nelse:\n    import p.a"}, "p.a -> p.b -> p.a"),
    ],
)
def test_circles_are_found_and_named(tmp_path: Path, files: Mapping[str, str], circle: str) -> None:
    for name, text in {"__init__.py": "", **files}.items():
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / name).write_text(text)
    assert circle_of(tmp_path, "p") == circle
