"""Any folder of photos as a dataset: sub-folders name the categories, or all photos are of one category.

Only the file name decides what is taken for a photo; a file that turns out not to be an image becomes a reject row of the first
stage that opens it, so one bad file never stops a run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path

from sc3d.config import DatasetConfig
from sc3d.datasets.content import AnnotatedSet, named
from sc3d.datasets.dataset import Dataset
from sc3d.datasets.photo_files import PhotoFiles
from sc3d.errors import InputError, SchemaError
from sc3d.images import EXTENSIONS
from sc3d.mask_files import MASK_EXTENSIONS
from sc3d.records import ImageRecord, as_category

_SLUG_LENGTH = 80
# 48 bits: two photos whose stems have one slug meet with a probability of 1e-9 among a thousand of them.
_HASH_DIGITS = 12


def read_folder(root: str | Path, category: str | None = None, masks: str | Path | None = None) -> list[ImageRecord]:
    """The photos of a folder and of its sub-folders, without what was left aside; see :func:`list_folder`."""
    return list_folder(root, category, masks).images


def list_folder(
    root: str | Path, category: str | None = None, masks: str | Path | None = None, follow_links: bool = False
) -> AnnotatedSet:
    """List the photos of a folder and of its sub-folders, sorted by relative path, and what else lies there.

    Photos are regular files with a common image extension in any case. Hidden files and folders are left aside, and so are folders that
    are links; the masks folder is skipped.

    Args:
        root: the folder.
        category: category of all photos; ``None``: the first-level sub-folders of ``root`` name the categories.
        masks: folder of mask files. A photo ``cat/a.jpg`` takes the first that exists of ``cat/a.jpg.*``, ``cat/a.*``, ``a.jpg.*``
            and ``a.*`` in it, with any extension of an image, ``.npy`` or ``.json``. A photo without a mask file gets ``None``. A mask
            file that would serve several photos is an error, and so are several that would serve one photo, since at most one of them can
            be the right one.
        follow_links: look into folders that are links too.

    Returns:
        Records with absolute paths, and a note for each kind of file that was left aside: how many, why, and the first few. An
        ``image_id`` is the stem as plain ASCII and a hash of the relative path, so photos with one stem have different ids, and an id
        stays when the folder moves.

    Raises:
        InputError: missing or empty folder, photos outside a category's sub-folder, a bad category name, two photos for one mask
            file or two mask files for one photo, or a masks folder in which no photo has a mask.
    """
    base = _existing(root, "photo folder")
    mask_base = None if masks is None else _existing(masks, "masks folder")
    files = PhotoFiles(base, EXTENSIONS, mask_base, follow_links)
    photos, aside = files.paths, files.aside()
    if not photos:
        raise InputError("; ".join((f"{base}: no photos in it; expected files that end in {', '.join(EXTENSIONS)}", *aside)))
    mask_of: dict[Path, Path] = {}
    if mask_base is not None:
        mask_files = PhotoFiles(mask_base, MASK_EXTENSIONS, None, follow_links)
        mask_of = _match_masks(photos, base, mask_files.paths, mask_base)
        aside += (*mask_files.aside(), *_unmatched(photos, mask_of, mask_files.paths, mask_base))
    images = [
        ImageRecord(
            image_id=image_id_of(photo.relative_to(base).as_posix(), photo.name),
            path=str(photo),
            category=_category_of(photo, base, category),
            mask_path=str(mask_of[photo]) if photo in mask_of else None,
        )
        for photo in photos
    ]
    return AnnotatedSet(images, [], aside=aside)


def _existing(folder: str | Path, what: str) -> Path:
    path = Path(os.path.abspath(folder))
    if not path.exists():
        raise InputError(f"{path}: the {what} does not exist; check the path")
    if not path.is_dir():
        raise InputError(f"{path}: the {what} is a file; name the folder that holds the images")
    return path


def _category_of(photo: Path, base: Path, category: str | None) -> str:
    parts = photo.relative_to(base).parts
    if category is None and len(parts) == 1:
        raise InputError(
            f"{photo}: lies directly in the photo folder, so nothing says what it shows; "
            "set dataset.category, or sort the photos into one sub-folder a category"
        )
    try:
        return as_category(parts[0] if category is None else category)
    except SchemaError as error:
        where = "dataset.category" if category is not None else f"sub-folder {base / parts[0]}"
        raise InputError(f"{where}: {error}") from None


def image_id_of(place: str, name: str) -> str:
    """An id that is safe as a file name: the stem of ``name`` as plain ASCII, and a hash of ``place``, where the photo is."""
    stem = os.path.splitext(os.path.basename(name))[0]
    # Decomposed, so that accents fall off their letters instead of taking them along.
    plain = stem if stem.isascii() else unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-")[:_SLUG_LENGTH].strip("-") or "image"
    return f"{slug}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:_HASH_DIGITS]}"


def _match_masks(photos: Sequence[Path], base: Path, masks: Sequence[Path], mask_base: Path) -> dict[Path, Path]:
    by_stem: dict[Path, list[Path]] = {}
    for mask in masks:
        by_stem.setdefault(mask.relative_to(mask_base).with_suffix(""), []).append(mask)
    mask_of: dict[Path, Path] = {}
    photo_of: dict[Path, Path] = {}
    for photo in photos:
        relative = photo.relative_to(base)
        wanted = (relative, relative.with_suffix(""), Path(relative.name), Path(relative.stem))
        found = next((by_stem[key] for key in wanted if key in by_stem), None)
        if found is None:
            continue
        if len(found) > 1:
            raise InputError(f"{photo}: has {len(found)} mask files, {named(found)}; keep the right one")
        mask = found[0]
        if mask in photo_of:
            raise InputError(
                f"{mask}: is the mask of {photo_of[mask]} and of {photo}; repeat the photos' sub-folders in the masks folder, "
                f"or name the masks after the whole file name ({photo.name}.png)"
            )
        mask_of[photo], photo_of[mask] = mask, photo
    if not mask_of:
        raise InputError(f"{mask_base}: no mask in it belongs to a photo in {base}; masks must have the stems of the photos")
    return mask_of


def _unmatched(photos: Sequence[Path], mask_of: dict[Path, Path], masks: Sequence[Path], mask_base: Path) -> tuple[str, ...]:
    """Photos without a mask file, and mask files without a photo, in words."""
    bare = [photo.name for photo in photos if photo not in mask_of]
    used = set(mask_of.values())
    idle = [str(mask.relative_to(mask_base)) for mask in masks if mask not in used]
    lines = []
    if bare:
        lines.append(
            f"{mask_base}: {len(bare):,} of {len(photos):,} photos have no mask file in it, and theirs are found: {named(bare)}"
        )
    if idle:
        lines.append(f"{mask_base}: {len(idle):,} left aside, mask files that have the stem of no photo: {named(idle)}")
    return tuple(lines)


def _read(root: Path, dataset: DatasetConfig, subset: str, paired: Collection[str]) -> AnnotatedSet:
    found = list_folder(root, dataset.category, Path(dataset.masks) if dataset.masks else None, dataset.follow_links)
    wanted = [image for image in found.images if not dataset.categories or image.category in dataset.categories]
    return dataclasses.replace(found, images=wanted)


FOLDER = Dataset(_read)
