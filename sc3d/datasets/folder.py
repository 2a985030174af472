"""Any folder of photos as a dataset: sub-folders name the categories, or all photos are of one category.

Only the file name decides what is taken for a photo; a file that turns out not to be an image becomes a reject row of the first
stage that opens it, so one bad file never stops a run.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path

from sc3d.config import DatasetConfig
from sc3d.datasets.content import AnnotatedSet
from sc3d.datasets.dataset import Dataset
from sc3d.errors import InputError, SchemaError
from sc3d.images import EXTENSIONS
from sc3d.records import ImageRecord, as_category

_SLUG_LENGTH = 80
# 48 bits: two photos whose stems have one slug meet with a probability of 1e-9 among a thousand of them.
_HASH_DIGITS = 12


def read_folder(root: str | Path, category: str | None = None, masks: str | Path | None = None) -> list[ImageRecord]:
    """List the photos of a folder and of its sub-folders, sorted by relative path.

    Photos are regular files with a common image extension in any case. Hidden files and folders are skipped, and so is the masks
    folder; links to folders are not followed.

    Args:
        root: the folder.
        category: category of all photos; ``None``: the first-level sub-folders of ``root`` name the categories.
        masks: folder of mask files. A photo ``cat/a.jpg`` takes the first that exists of ``cat/a.jpg.*``, ``cat/a.*``, ``a.jpg.*``
            and ``a.*`` in it, with any image extension. A photo without a mask file gets ``None``. A mask file that would serve
            several photos is an error, since at most one of them can be the one it was drawn on.

    Returns:
        Records with absolute paths. An ``image_id`` is the stem as plain ASCII and a hash of the relative path, so photos with
        one stem have different ids, and an id stays when the folder moves.

    Raises:
        InputError: missing or empty folder, photos outside a category's sub-folder, a bad category name, two photos for one mask
            file, or a masks folder in which no photo has a mask.
    """
    base = _existing(root, "photo folder")
    mask_base = None if masks is None else _existing(masks, "masks folder")
    photos = sorted(_images_below(base, skip=mask_base), key=lambda p: p.relative_to(base).parts)
    if not photos:
        raise InputError(f"{base}: no photos in it; expected files that end in {', '.join(EXTENSIONS)}")
    mask_of = _match_masks(photos, base, mask_base) if mask_base is not None else {}
    return [
        ImageRecord(
            image_id=image_id_of(photo.relative_to(base).as_posix(), photo.name),
            path=str(photo),
            category=_category_of(photo, base, category),
            mask_path=str(mask_of[photo]) if photo in mask_of else None,
        )
        for photo in photos
    ]


def _existing(folder: str | Path, what: str) -> Path:
    path = Path(os.path.abspath(folder))
    if not path.exists():
        raise InputError(f"{path}: the {what} does not exist; check the path")
    if not path.is_dir():
        raise InputError(f"{path}: the {what} is a file; name the folder that holds the images")
    return path


def _images_below(base: Path, skip: Path | None = None) -> Iterator[Path]:
    for folder, folders, files in os.walk(base):
        here = Path(folder)
        folders[:] = [f for f in folders if not f.startswith(".") and here / f != skip]
        for name in files:
            path = here / name
            if name.startswith(".") or path.suffix.lower() not in EXTENSIONS or not path.is_file():
                continue
            try:
                str(path).encode()
            except UnicodeEncodeError:
                raise InputError(f"{os.fsencode(path)!r}: the name is not valid UTF-8, so no table can hold it; rename") from None
            yield path


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


def _match_masks(photos: list[Path], base: Path, mask_base: Path) -> dict[Path, Path]:
    by_stem: dict[Path, Path] = {}
    for mask in sorted(_images_below(mask_base)):
        by_stem.setdefault(mask.relative_to(mask_base).with_suffix(""), mask)
    mask_of: dict[Path, Path] = {}
    photo_of: dict[Path, Path] = {}
    for photo in photos:
        relative = photo.relative_to(base)
        wanted = (relative, relative.with_suffix(""), Path(relative.name), Path(relative.stem))
        found = [by_stem[key] for key in wanted if key in by_stem]
        if not found:
            continue
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


def _read(root: Path, dataset: DatasetConfig, subset: str, paired: Collection[str]) -> AnnotatedSet:
    images = read_folder(root, dataset.category, Path(dataset.masks) if dataset.masks else None)
    return AnnotatedSet([image for image in images if not dataset.categories or image.category in dataset.categories], [])


FOLDER = Dataset(_read)
