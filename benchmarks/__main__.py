"""Run benchmarks: ``python -m benchmarks [name ...] [--json]``. One line a figure on stdout, errors on stderr, exit code 1 if one fails."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import traceback
from typing import Any

BENCHES = (
    "class_shape_ablations",
    "class_shape_cost",
    "class_shapes",
    "evaluation",
    "export",
    "fence",
    "geometry",
    "light",
    "matching",
    "models",
    "pairs",
    "partfield",
    "start",
    "sweep",
    "transfers",
    "training",
    "tiles",
    "toys",
    "truth",
)

# Of which geometry is made; each can be run by its own name.
PARTS = ("raster", "geodesic", "silhouette", "alignment", "yaw")


def available() -> tuple[str, ...]:
    """The benchmarks and parts that this checkout has."""
    return tuple(name for name in (*BENCHES, *PARTS) if importlib.util.find_spec(f"benchmarks.{name}") is not None)


def as_text(figure: dict[str, Any]) -> str:
    """A figure as a line to read."""
    versus = f"  ({figure['ratio']} times as good as {figure['alternative']})" if figure["ratio"] is not None else ""
    return f"{figure['bench']:10} {figure['figure']:60} {figure['value']:>10} {figure['unit']}{versus}"


def run_one(name: str, as_json: bool) -> bool:
    """Print a benchmark's figures as they come; False, with the reason on stderr, if it fails."""
    try:
        for figure in importlib.import_module(f"benchmarks.{name}").run():
            print(json.dumps(figure) if as_json else as_text(figure), flush=True)
    except Exception:
        print(f"benchmark {name} failed:", file=sys.stderr)
        traceback.print_exc()
        return False
    return True


def main(arguments: list[str] | None = None) -> int:
    """Run the named benchmarks, or all; a failing one does not keep the others from running."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed, memory and accuracy beside the alternatives.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"which to run; none: all; there are {', '.join(available())}")
    parser.add_argument("--json", action="store_true", help="one JSON line a figure instead of text")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(available()))
    if unknown:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are {', '.join(available())}")
    results = [run_one(name, options.json) for name in options.names or [name for name in available() if name not in PARTS]]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
