"""SPair-U (Mariotti et al., "Jamais Vu", 2025): the test pairs of SPair-71k, annotated with other keypoints than those of its training set.

The annotations have SPair-71k's structure and its photos. They are looked for, below a root that may be SPair-71k's or their own, as

* ``ExtraImageAnnotation`` and ``ExtraPairAnnotation`` in the root,
* ``ImageAnnotation`` and ``PairAnnotation``, with ``Extra`` in front or not, in ``SPair-U`` in the root or beside it,
* the same in the root itself, if that is not SPair-71k's.

The photos are the JPEGImages in the root, beside it, or in ``SPair-71k`` beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from sc3d.datasets.content import AnnotatedSet
from sc3d.datasets.dataset import Dataset, Protocol, Source
from sc3d.datasets.spair import SpairFolders, inspect_spair, read_spair_folders
from sc3d.errors import InputError
from sc3d.records import SPLITS


def read_spair_u(root: str | Path, splits: Sequence[str] = SPLITS, categories: Collection[str] = ()) -> AnnotatedSet:
    """Read images and pairs as :func:`~sc3d.datasets.spair.read_spair` does; image ids are SPair-71k's, so descriptions can be shared.

    The published annotations have test pairs alone. Keypoint ids are SPair-U's own: the groups of SPair-71k do not apply.

    Raises:
        InputError: missing folders, malformed files, unknown splits, categories or images, or an image in two splits.
    """
    return read_spair_folders(spair_u_folders(Path(root)), splits, categories)


def spair_u_folders(root: Path) -> SpairFolders:
    """Where the annotations and the photos are; raises :class:`InputError` if either are not to be found."""
    found = next(_annotations(root), None)
    if found is None:
        raise InputError(
            f"{root}: no annotations of SPair-U; expected ExtraImageAnnotation and ExtraPairAnnotation in it, or a folder SPair-U in it or "
            "beside it with ImageAnnotation and PairAnnotation"
        )
    images, pairs = found
    bases = (root, images.parent, images.parent.parent, images.parent.parent / "SPair-71k")
    photos = next((base for base in bases if (base / "JPEGImages").is_dir()), None)
    if photos is None:
        raise InputError(
            f"{images.parent}: SPair-U has the photos of SPair-71k, and no folder JPEGImages is in it or beside it; put SPair-71k beside it"
        )
    return SpairFolders(images, pairs, None, photos)


def _annotations(root: Path) -> Iterator[tuple[Path, Path]]:
    own = root / "SPair-U", root.parent / "SPair-U"
    plain = own if _is_spair(root) else (*own, root)
    for folders, prefix in (((root, *own), "Extra"), (plain, "")):
        for folder in folders:
            images, pairs = folder / f"{prefix}ImageAnnotation", folder / f"{prefix}PairAnnotation"
            if images.is_dir() and pairs.is_dir():
                yield images, pairs


def _is_spair(root: Path) -> bool:
    return (root / "Layout").is_dir() or (root / "PairAnnotation" / "trn").is_dir()


SPAIR_U = Dataset(
    lambda root, dataset, subset, paired: read_spair_u(root, categories=dataset.categories),
    protocol=Protocol("SPair-U", dagger=True),
    masks="classes",
    source=Source(
        "SPair-U",
        (
            "get SPair-71k first, whose photos it uses: sc3d data spair",
            "download https://groups.inf.ed.ac.uk/hbilen-data/data/JamaisVuData/SPair-U.zip",
            "unpack it as a folder SPair-U in or beside the folder SPair-71k, and give either as --root",
        ),
    ),
    inspect=lambda check, root, subset: inspect_spair(check, spair_u_folders(root), subset),
)
