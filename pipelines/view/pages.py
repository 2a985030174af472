"""What each address of ``sc3d view`` shows. Ids are looked up in the run's tables; none is taken for the name of a file."""

from __future__ import annotations

import io
import json
import logging
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pipelines.report.show import gather
from pipelines.report.view import RunView
from pipelines.view.image import make_image_page
from pipelines.view.listings import LISTINGS, PAIRS, QueryError, parse_query
from pipelines.view.lists import make_list_page, pair_links, size_of
from pipelines.view.tables import RunTables
from sc3d.cache import ByteCache
from sc3d.config import RunConfig
from sc3d.display import without_secrets
from sc3d.errors import Sc3dError
from sc3d.records import Pair
from sc3d.report.evidence import SCRIPTS, evidence_page
from sc3d.report.listing import SCRIPTS as LIST_SCRIPTS
from sc3d.report.listing import Link, MessagePage, image_page, list_page, message_page
from sc3d.report.page import script_hash
from sc3d.report.pictures import shrink
from sc3d.store import RunFolder

logger = logging.getLogger(__name__)

THUMBNAIL = 128
"""Pixels of the long side of a small photo; twice what it takes on the page."""

_GREY = 200
_THUMBNAIL_BYTES = 64 * 2**20
_PHOTOS_AT_ONCE = 2
_POLICY = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


@dataclass(frozen=True)
class Answer:
    """What is sent for an address. ``headers``: those that are about it alone."""

    status: int
    body: bytes
    kind: str = "text/html; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


class NotHereError(Sc3dError):
    """The run has nothing of that name."""


def page_answer(text: str, status: int = 200, scripts: tuple[str, ...] = (), asks: bool = False) -> Answer:
    """A page as an answer, on which only its own scripts may run and nothing comes from elsewhere; ``asks``: they ask this server."""
    policy = f"{_POLICY}; script-src 'sha256-{script_hash(scripts)}'" if scripts else _POLICY
    policy += "; connect-src 'self'" if asks else ""
    return Answer(status, text.encode(), headers=(("Content-Security-Policy", policy), ("Cache-Control", "no-store")))


class RunPages:
    """The pages of a run, as it was when it was read last. Safe to share between threads.

    Attributes:
        run: its folder.
        view, tables: what was read of it.
        version: how often it was read: 1 at first.

    Raises:
        ConfigError: DuckDB is not installed.
        SchemaError, StoreError: a file of the run cannot be read.
    """

    def __init__(self, config: RunConfig) -> None:
        self.run = RunFolder(config.run)
        self.version = 1
        self._config = config
        self._stopped = False
        self.view = RunView(config)
        self.tables = self._coming = RunTables(config)
        # A pair takes two cores for a second, and a photo may be large.
        self._heavy = threading.Lock()
        self._photos = threading.BoundedSemaphore(_PHOTOS_AT_ONCE)
        self._thumbnails: ByteCache[str, bytes] = ByteCache(self._thumbnail, len, _THUMBNAIL_BYTES)

    def read_again(self) -> bool:
        """Read the run anew, errors of pairs too, and show that instead; whether it was read to the end.

        Raises:
            SchemaError, StoreError: a file of the run cannot be read.
        """
        view, self._coming = RunView(self._config), RunTables(self._config)
        if not self._stopped:
            self._coming.read_errors()
        if self._stopped:
            return False
        self.view, self.tables = view, self._coming
        self._thumbnails = ByteCache(self._thumbnail, len, _THUMBNAIL_BYTES)
        self.version += 1
        return True

    def stop(self) -> None:
        """Let who reads errors end before all are read."""
        self._stopped = True
        for tables in (self.tables, self._coming):
            tables.stop()

    def answer(self, place: str, query: str) -> Answer:
        """What an address shows: ``place`` after the token, such as ``pair/<id>``, and what follows the question mark."""
        kind, _, id_ = place.partition("/")
        routes: Mapping[str, Callable[[str, str], Answer]] = {
            "pair": self._pair,
            "image": self._image,
            "thumbnail": lambda image_id, _: self._small_photo(image_id),
        }
        try:
            if place in LISTINGS:
                page = make_list_page(self.run.uri, self.tables, place, query, self.version)
                return page_answer(list_page(page), scripts=LIST_SCRIPTS, asks=True)
            if place == "version":
                return self._version()
            if kind in routes and id_:
                return routes[kind](id_, query)
            raise NotHereError("there is no such page")
        except NotHereError as error:
            return self._message(404, "Not here", str(error), Link("All pairs", self._up(place, "pairs")))
        except QueryError as error:
            return self._message(400, "No such list", str(error), Link("All of them", self._up(place, place)))
        except Sc3dError as error:
            return self._message(500, "This could not be shown", str(error), Link("All pairs", self._up(place, "pairs")))
        except Exception as error:
            trace = without_secrets("".join(traceback.format_exception(error)))
            logger.warning("%s could not be shown\n%s", place, trace)
            return self._message(
                500, "This could not be shown", "The terminal says more.", Link("All pairs", self._up(place, "pairs"))
            )

    def _version(self) -> Answer:
        """What open lists ask again and again: nothing of the run folder is read for it."""
        values = {"version": self.version, "counts": {name: f"{size_of(self.tables, name):,}" for name in LISTINGS}}
        return Answer(200, json.dumps(values).encode(), "application/json", (("Cache-Control", "no-store"),))

    def _up(self, place: str, name: str) -> str:
        return "../" * place.count("/") + (name if name in LISTINGS else PAIRS.table)

    def _message(self, status: int, title: str, text: str, *links: Link) -> Answer:
        return page_answer(message_page(MessagePage(self.run.uri, title, (text,), links)), status)

    def _pair(self, pair_id: str, text: str) -> Answer:
        query, place = parse_query(PAIRS, text)
        row = self._row("pairs", pair_id)
        links = pair_links(self.tables, query, place.get("at"), row)
        pair = Pair(row["id"], row["source"], row["target"], row["category"], row["split"])
        notes = [f"It was rejected: {row['reason']}"] if row["reason"] else []
        try:
            with self._heavy:
                page = evidence_page(gather(self.view, pair), [(link.text, link.href) for link in links], notes)
        except Sc3dError as error:
            texts = (*notes, f"Its matches cannot be shown: {error}")
            return page_answer(message_page(MessagePage(self.run.uri, pair_id, texts, tuple(links))))
        return page_answer(page, scripts=SCRIPTS)

    def _image(self, image_id: str, _: str) -> Answer:
        row = self._row("images", image_id)
        rejects = self.tables.rows("SELECT stage, error_type, message FROM rejects WHERE id = ? ORDER BY number", [image_id])
        with self._heavy:
            return page_answer(image_page(make_image_page(self.view, row, rejects)))

    def _row(self, table: str, id_: str) -> dict[str, Any]:
        rows = self.tables.rows(f"SELECT * FROM {table} WHERE id = ?", [id_])  # noqa: S608
        if not rows:
            raise NotHereError(f"the run has no {table.removesuffix('s')} of that name")
        return rows[0]

    def _small_photo(self, image_id: str) -> Answer:
        self._row("images", image_id)
        with self._photos:
            data = self._thumbnails.get(image_id)
        return Answer(200, data, "image/jpeg", (("Cache-Control", "private, max-age=600"),))

    def _thumbnail(self, image_id: str) -> bytes:
        photo = self.view.load_photo(image_id)
        small = shrink(photo, THUMBNAIL) if photo is not None else np.full((THUMBNAIL, THUMBNAIL, 3), _GREY, np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(small).save(buffer, "JPEG", quality=80)
        return buffer.getvalue()
