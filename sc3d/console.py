"""The border between texts from data and a terminal: a console that takes no text for markup and lets no control character through."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

# C0 without tab and line feed, C1, what turns or breaks lines or cannot be seen, halves of characters, and Unicode's invisible tags.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)

_LONGEST_LINE = 8000


def visible(text: str) -> str:
    """A text with what would move a terminal's cursor, change its colours or the order of its letters written out, as in ``\\x1b``.

    Line feeds and tabs stay.
    """
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)


def line_of(text: str) -> str:
    """The same in one line, of which the end is left out where it is longer than anybody reads."""
    line = visible(" ".join(text.split("\n")))
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}..."


class PlainConsole(Console):
    """A console that prints texts as they are: brackets are brackets, and control characters are :func:`visible`.

    Colours come from the code, by ``style=`` or :class:`rich.text.Text`; links and pictures for names in colons are off.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **{"highlight": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Texts become visible before they are measured, so that tables fit."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Everything that is printed passes here, the cells of a table and the parts of a progress line too."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def log_plainly() -> None:
    """Make what is logged visible too, where nobody has set up logging: Python then prints warnings to stderr by its last resort."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PlainFormatter())


class PlainFormatter(logging.Formatter):
    """Log lines whose texts are :func:`visible`, tracebacks too."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, or lines."""
        return visible(super().format(record))
