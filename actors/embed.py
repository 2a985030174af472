"""The global descriptor of an image: the actor of the embed stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from actors.base import Actor, Row
from sc3d.matching.embedding import embed


class EmbedActor(Actor):
    """Global descriptor of an image, slot by slot."""

    requires: ClassVar[Mapping[str, str]] = {"features": "the features of the image"}
    provides: ClassVar[Mapping[str, str]] = {"embedding": "slot -> unit vector (C,)"}
    version: ClassVar[str] = "embed-1"

    def process(self, row: Row) -> Row:
        """Embed one image."""
        return {"embedding": embed(row["features"])}
