"""What is printed: texts as they are, and never what a terminal obeys."""

from __future__ import annotations

import io
import logging
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sc3d.console import PlainConsole, PlainFormatter, line_of, visible

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "a[/b] [bold]x[/] :smile: \x1b[31m\x1b]0;title\x07 \r\b\x7f\x9b2J \u202eevil\u2066 \ufeff \ud800 \U000e0041"
SHOWN = r"a[/b] [bold]x[/] :smile: \x1b[31m\x1b]0;title\x07 \r\x08\x7f\x9b2J \u202eevil\u2066 \ufeff \ud800 \U000e0041"


def printed(*things: object, terminal: bool = False, **options: object) -> str:
    stream = io.StringIO()
    PlainConsole(file=stream, width=400, force_terminal=terminal, color_system="truecolor" if terminal else None).print(
        *things, **options
    )  # type: ignore[arg-type]
    return stream.getvalue()


@given(st.text(st.characters()))
def test_no_control_character_is_left_and_nothing_else_is_changed(text: str) -> None:
    shown = visible(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    assert visible(shown) == shown
    if text.isprintable():
        assert shown == text
    shown.encode()
    assert "\n" not in line_of(text)


def test_a_line_ends_somewhere() -> None:
    assert line_of("a\nb") == "a b"
    assert line_of("x" * 1_000_000) == "x" * 8000 + "..."


def test_what_people_write_stays_as_it_is() -> None:
    for text in ("naïve Straße 車 🚗👩‍🔬", "שלום", "a\tb\nc", "क्‍ष"):
        assert visible(text) == text


def test_hostile_texts_are_shown_wherever_they_stand() -> None:
    table = Table(HOSTILE, title=HOSTILE, caption=HOSTILE)
    table.add_row(HOSTILE)
    for text in (printed(HOSTILE), printed(f"x {HOSTILE}", style="bold"), printed(table)):
        assert SHOWN in text
        assert "\x1b" not in text
    assert printed(table).count(SHOWN) == 4


def test_styles_of_the_code_are_colours_and_those_of_data_are_not() -> None:
    text = printed("[red]data[/]", style="bold", terminal=True)
    assert text.count("\x1b[") == 2
    assert "[red]data[/]" in text
    # Even where somebody builds a styled text of data by hand.
    assert "\x1b[31mdata" not in printed(Text("\x1b[31mdata"), terminal=True)
    assert r"\x1b[31mdata" in printed(Text("\x1b[31mdata"), terminal=True)


def test_live_lines_can_still_move_the_cursor() -> None:
    stream = io.StringIO()
    console = PlainConsole(file=stream, force_terminal=True, width=80)
    with Live("a", console=console, auto_refresh=False) as live:
        live.update("b\x1b[2J", refresh=True)
    assert "\x1b[2K" in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()


def test_a_log_line_is_visible_and_its_traceback_too() -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        record = logging.LogRecord("x", logging.WARNING, "", 0, "%s is bad", (HOSTILE,), (type(error), error, None))
    text = PlainFormatter().format(record)
    assert text.count(r"\x1b[31m") == 2
    assert "\x1b" not in text


@pytest.mark.parametrize("package", ["sc3d", "pipelines", "actors", "training"])
def test_there_is_one_console(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        if path != ROOT / "sc3d/console.py":
            text = path.read_text(encoding="utf-8")
            for way in (
                "rich.console import Console",
                "rich.markup",
                "from_markup",
                "typer.echo(",
                "rich.print",
                "sys.stdout.write",
            ):
                assert way not in text, f"{path} prints past sc3d.console"
