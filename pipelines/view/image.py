"""The page of one image: its photo, its mesh over it, which way it faces, and why it was rejected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from pipelines.report.view import RunView
from sc3d.display import shown
from sc3d.errors import Sc3dError
from sc3d.report.alignment import AlignmentCard, YawCard, alignment_card, yaw_card
from sc3d.report.listing import ImagePage, Link
from sc3d.report.pictures import jpeg_uri, shrink

_PHOTO_PIXELS, _MESH_PIXELS = 720, 480


def make_image_page(view: RunView, row: Mapping[str, Any], rejects: Sequence[Mapping[str, Any]]) -> ImagePage:
    """The page of a row of the table ``images``, with its rows of ``rejects``."""
    image_id = str(row["id"])
    photo = view.load_photo(image_id)
    alignment, yaw, notes = _drawn(view, image_id)
    return ImagePage(
        run=view.run.uri,
        image_id=image_id,
        category=str(row["category"]),
        links=(
            Link("All images", "../images"),
            Link(f"Its pairs ({row['pairs']:,})", f"../pairs?{urlencode({'image': image_id})}"),
            Link("Images of its category", f"../images?{urlencode({'category': row['category']})}"),
        ),
        photo="" if photo is None else jpeg_uri(shrink(photo, _PHOTO_PIXELS)),
        facts=tuple(_facts(view, row)),
        rejects=tuple((one["stage"], one["error_type"], one["message"]) for one in rejects),
        alignment=alignment,
        yaw=yaw,
        notes=notes,
    )


def _drawn(view: RunView, image_id: str) -> tuple[AlignmentCard | None, YawCard | None, tuple[str, ...]]:
    """Mesh and front as far as they are there, and what could not be shown."""
    try:
        found = view.reconstructions.read([image_id])
        if image_id not in found:
            return None, None, ()
        one = found[image_id]
        alignment = alignment_card(view.photo(image_id, one.width, one.height), one, _MESH_PIXELS)
        turned = view.orientations.read([image_id])
        return alignment, yaw_card(turned[image_id], one) if image_id in turned else None, ()
    except Sc3dError as error:
        return None, None, (f"Its mesh could not be shown: {error}",)


def _facts(view: RunView, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "state", row["state"]
    yield "file", shown(view.images[row["id"]].path)
    yield "split", row["split"]
    if row["iou"] is not None:
        yield "IoU of mesh and mask", f"{row['iou_before']:.3f} as reconstructed, {row['iou']:.3f} aligned"
    if row["azimuth"] is not None:
        yield "yaw of the camera", f"{row['azimuth']:.0f} degrees (0 sees the front, 90 the object's left side)"
    if row["turn"] is not None:
        yield "turned by", f"{row['turn']} degrees"
    yield "flags", ", ".join(row["flags"]) or "none"
    yield "pairs", f"{row['pairs']:,} planned, {row['kept']:,} labels in them"
