"""The command line. Each command builds a configuration and calls the ``run`` of a pipeline: a notebook calls the same function.

Exit codes: 0 done, 1 the run cannot go on (the message says why), 2 wrong usage or configuration, 3 too many rejects, 130 interrupted,
143 told to stop.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

import typer

from cluster.session import set_stderr_apart
from pipelines.cli import data, exchange, inspect, label, learn
from sc3d.console import PlainConsole, line_of, log_plainly
from sc3d.errors import ConfigError, RejectBudgetError, Sc3dError

app = typer.Typer(
    name="sc3d",
    help="Geometry-verified semantic correspondence: photos in, verified labels and a trained adapter out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _part in (label, learn, inspect, exchange, data):
    app.add_typer(_part.app)


def _terminated(number: int, frame: object) -> None:
    sys.stderr.write("stopped; the same command goes on where it was\n")
    sys.exit(128 + number)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors meant for the user become one line on stderr and an exit code."""
    with suppress(ValueError):  # not the main thread: whoever calls has the signals
        signal.signal(signal.SIGTERM, _terminated)
    set_stderr_apart()
    log_plainly()
    try:
        app(args=list(arguments) if arguments is not None else None, prog_name="sc3d")
    except Sc3dError as error:
        console = PlainConsole(stderr=True, soft_wrap=True)
        console.print("error:", style="bold red", end=" ")
        console.print(line_of(f"{type(error).__name__}: {error}"))
        sys.exit(2 if isinstance(error, ConfigError) else 3 if isinstance(error, RejectBudgetError) else 1)
