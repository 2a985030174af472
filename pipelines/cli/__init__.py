"""The command line. Each command builds a configuration and calls the ``run`` of a pipeline: a notebook calls the same function.

What it ends with is an :class:`~pipelines.cli.exit_codes.ExitCode`.
"""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer

from cluster.session import set_stderr_apart
from pipelines.cli import data, exchange, inspect, label, learn
from pipelines.cli.exit_codes import ExitCode, exit_code_of
from sc3d import __version__
from sc3d.console import PlainConsole, line_of, log_plainly
from sc3d.display import without_secrets
from sc3d.errors import PreflightError, Sc3dError

app = typer.Typer(
    name="sc3d",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _part in (label, learn, inspect, exchange, data):
    app.add_typer(_part.app)

RESUMED = (
    "label",
    "reconstruct",
    "describe",
    "match",
    "relabel",
    "demo",
    "train",
    "sweep",
    "evaluate",
    "represent",
    "compare",
    "export",
)
"""Commands that go on where they were cut short when they are started again; what others do is done in one go."""


def _say_version(wanted: bool) -> None:
    if wanted:
        PlainConsole().print(f"sc3d {__version__}")
        raise typer.Exit(ExitCode.DONE)


@app.callback()
def _sc3d(
    version: Annotated[bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Geometry-verified semantic correspondence: photos in, verified labels and a trained adapter out."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors meant for the user become a few lines on stderr and an exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)

    def terminated(number: int, frame: object) -> None:
        # At once: whoever sent it may not wait for what else there is to close.
        _say_stopped("stopped", words)
        sys.exit(ExitCode.TERMINATED)

    with suppress(ValueError):  # not the main thread: whoever calls has the signals
        signal.signal(signal.SIGTERM, terminated)
    set_stderr_apart()
    log_plainly()
    try:
        app(args=words, prog_name="sc3d")
    except Sc3dError as error:
        _say_error(error)
        sys.exit(exit_code_of(error))
    except SystemExit as ended:
        if ended.code == ExitCode.INTERRUPTED:
            _say_stopped("interrupted", words)
        raise
    except KeyboardInterrupt:
        _say_stopped("interrupted", words)
        sys.exit(ExitCode.INTERRUPTED)


def _say_stopped(how: str, words: Sequence[str]) -> None:
    again = f"sc3d {shlex.join(words)}"
    on = f"; what is finished is kept, and the same command goes on there: {again}" if words and words[0] in RESUMED else ""
    sys.stderr.write(f"{line_of(without_secrets(how + on))}\n")


def _say_error(error: Sc3dError) -> None:
    console = PlainConsole(stderr=True, soft_wrap=True)
    first, *more = error.lines if isinstance(error, PreflightError) else (str(error),)
    console.print("error:", style="bold red", end=" ")
    console.print(line_of(f"{type(error).__name__}: {first}"))
    for line in more:
        console.print(line_of(line))
