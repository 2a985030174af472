"""``sc3d orient``: a page of the photos whose pose is unsure, on which a person says which side of the object they show."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.report.view import RunView, view_run
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config import RunConfig
from sc3d.display import shown
from sc3d.errors import InputError
from sc3d.geometry.camera import camera_azimuth
from sc3d.geometry.mesh import Mesh
from sc3d.records import LOW_CONFIDENCE, ImageRecord, Reconstruction
from sc3d.report.alignment import object_crop
from sc3d.report.facing import FacingCategory, FacingPage, FacingPhoto, facing_page, nearest_side, side_pictures
from sc3d.report.pictures import jpeg_uri, outline_mask

FILE = "report/orient.html"
MOST = 200
_PHOTO_PIXELS = 240


@dataclass(frozen=True)
class Facings:
    """Where the page is, how many photos are unsure, how many of them somebody has settled, and how many photos the page shows."""

    page: str
    unsure: int
    settled: int
    shown: int


def run(config: RunConfig, most: int = MOST, everything: bool = False) -> Facings:
    """Write the page, with at most so many photos: the least sure first, and those that somebody has settled.

    Args:
        everything: show the others too.

    Raises:
        StoreError: the folder holds no run.
        InputError: none of its meshes is a template in a pose that was estimated.
    """
    view = view_run(config)
    columns = view.summary.reconstructions
    images = {image.image_id: image for image in view.summary.images}
    confidence = dict(zip(columns["image_id"].tolist(), columns["confidence"].tolist(), strict=True))
    posed = [id_ for id_ in sorted(confidence) if confidence[id_] >= 0]
    if not posed:
        raise InputError(
            f"{view.run.uri}: has no template meshes in estimated poses, so there is nothing to say; "
            f"label with one: {view.command('label')} --template MESH"
        )
    flags = dict(zip(columns["image_id"].tolist(), columns["flags"], strict=True))
    unsure = {id_ for id_ in posed if LOW_CONFIDENCE in flags[id_]}
    settled = {id_ for id_ in posed if images[id_].facing is not None}
    wanted = sorted((set(posed) if everything else unsure | settled), key=lambda id_: (id_ in settled, confidence[id_], id_))[:most]
    records = ReconstructStage(config).catalogue().read(wanted)
    command = f"{view.command('label')} --facing facing.csv"
    page = FacingPage(config.run, tuple(_categories(view, images, [records[id_] for id_ in wanted])), len(unsure), command)
    view.run.write_bytes(FILE, facing_page(page).encode())
    return Facings(f"{view.run.uri}/{FILE}", len(unsure), len(settled), len(wanted))


def _categories(view: RunView, images: dict[str, ImageRecord], records: Sequence[Reconstruction]) -> Iterable[FacingCategory]:
    for name in sorted({one.category for one in records}):
        mine = [one for one in records if one.category == name]
        sides = side_pictures(Mesh(mine[0].vertices, mine[0].faces))
        yield FacingCategory(name, sides, tuple(_photo(view, images[one.image_id], one) for one in mine))


def _photo(view: RunView, image: ImageRecord, one: Reconstruction) -> FacingPhoto:
    small, mask, _ = object_crop(view.photo(image.image_id, one.width, one.height), one, _PHOTO_PIXELS)
    azimuth = float(camera_azimuth(one.rotation, one.translation))
    return FacingPhoto(
        image_id=image.image_id,
        name=posixpath.basename(shown(image.path)),
        photo=jpeg_uri(outline_mask(small, mask)),
        guess=nearest_side(azimuth) if np.isfinite(azimuth) else "",
        said="" if image.facing is None else nearest_side(image.facing),
    )
