"""What commands print for programs: one JSON text on stdout, in ASCII, so that it is the same in any locale and terminal."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from sc3d.console import PlainConsole

Json = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]


def say_json(values: Any) -> None:
    """Print plain values. Whatever could steer a terminal is escaped."""
    text = json.dumps(values, indent=2, allow_nan=False).replace("\x7f", "\\u007f")
    PlainConsole().print(text, soft_wrap=True)
