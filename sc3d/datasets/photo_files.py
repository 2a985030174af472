"""Which files of a folder are photos or masks by their names, and what is left aside, counted, with the reason."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from sc3d.datasets.content import named
from sc3d.errors import InputError

_SHOWN_ENDINGS = 8

_ENDING = "with another ending"
_HIDDEN = "hidden, as their names begin with a dot"
_LINK = "folders that are links, which dataset.follow_links=true follows"
_AGAIN = "linked folders that are in it already"
_CLOSED = "folders that cannot be read"
_IRREGULAR = "no regular files, or links to nothing"


class PhotoFiles:
    """The files below a folder whose names end in one of ``endings``, and what else lies there.

    Args:
        base: the folder, which exists.
        endings: in small letters, each with its dot; names may have them in capitals.
        skip: a folder in it that is not looked at, and not left aside.
        follow_links: look into folders that are links too, into each folder once.

    Attributes:
        paths: of regular files, or links to such, in the order of their names.

    Raises:
        InputError: one's name is not valid UTF-8.
    """

    def __init__(self, base: Path, endings: Collection[str], skip: Path | None = None, follow_links: bool = False) -> None:
        self._base, self._endings, self._skip, self._follow = base, endings, skip, follow_links
        self._aside: dict[str, list[str]] = {}
        self.paths = sorted(self._below(), key=lambda path: path.relative_to(base).parts)

    def aside(self) -> tuple[str, ...]:
        """What was left aside, a line a reason."""
        lines = []
        for reason, names in sorted(self._aside.items()):
            what = f"{reason} ({_by_ending(names)})" if reason == _ENDING else reason
            lines.append(f"{self._base}: {len(names):,} left aside, {what}: {named(sorted(names))}")
        return tuple(lines)

    def _leave(self, path: Path, reason: str, note: str = "") -> None:
        self._aside.setdefault(reason, []).append(f"{path.relative_to(self._base)}{note}")

    def _below(self) -> Iterator[Path]:
        waiting, links, seen = [self._base], list[Path](), set[tuple[int, int]]()
        # Links last, so that what lies in the folder itself keeps its name.
        while waiting or links:
            here = (waiting or links).pop()
            try:
                place = os.stat(here)
                entries = [] if (place.st_dev, place.st_ino) in seen else list(os.scandir(here))
            except OSError as error:
                self._leave(here, _CLOSED, f" ({error.strerror})")
                continue
            if (place.st_dev, place.st_ino) in seen:
                self._leave(here, _AGAIN)
            seen.add((place.st_dev, place.st_ino))
            for entry in entries:
                path = here / entry.name
                if path == self._skip:
                    continue
                if entry.name.startswith("."):
                    self._leave(path, _HIDDEN)
                elif not path.is_dir():
                    if self._is_wanted(path):
                        yield path
                elif not entry.is_symlink():
                    waiting.append(path)
                elif self._follow:
                    links.append(path)
                else:
                    self._leave(path, _LINK)

    def _is_wanted(self, path: Path) -> bool:
        if path.suffix.lower() not in self._endings:
            self._leave(path, _ENDING)
            return False
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise InputError(f"{os.fsencode(path)!r}: the name is not valid UTF-8, so no table can hold it; rename") from None
        if not path.is_file():
            self._leave(path, _IRREGULAR)
            return False
        return True


def _by_ending(names: Collection[str]) -> str:
    counts = Counter(os.path.splitext(name)[1].lower() or "none" for name in names).most_common()
    shown = ", ".join(f"{count:,} {ending}" for ending, count in counts[:_SHOWN_ENDINGS])
    return shown if len(counts) <= _SHOWN_ENDINGS else f"{shown}, {len(counts) - _SHOWN_ENDINGS:,} others"
