"""``python -m benchmarks.models [tiny|full|count|table]``."""

from __future__ import annotations

import argparse
import json

from benchmarks.models import run
from benchmarks.models.table import DOCUMENT, counted_table, write


def main(arguments: list[str] | None = None) -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description="Speed and size of the foundation models.")
    parser.add_argument(
        "what",
        nargs="?",
        choices=("tiny", "full", "count", "table"),
        help="measure small or published sizes (none: published on a GPU, small on a CPU); count published sizes, also without a GPU; "
        f"or do both and write the tables of {DOCUMENT.name}",
    )
    what = parser.parse_args(arguments).what
    if what == "count":
        print(counted_table())
    elif what == "table":
        write()
    else:
        for line in run(what):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
