"""hloc's files (Hierarchical-Localization): ``features.h5``, ``matches.h5`` and ``pairs.txt``, as its ``match_features`` writes them.

An image is a group by its name; a pair a group ``name0/name1``, in whose names slashes have become dashes. The centre of hloc's first
pixel is at 0, of ours at 0.5.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

import numpy as np

from sc3d.datasets.label_export.cell_keypoints import KeypointMatches, KeypointWriter, UsedCells
from sc3d.datasets.label_export.folder import ExportState
from sc3d.errors import ConfigError, InputError

FEATURES, MATCHES, PAIRS = "features.h5", "matches.h5", "pairs.txt"

_LAYOUT = """`features.h5`: for each image, by the name of its file below the folder of the photos, `keypoints` (K, 2), the centres of
the grid cells that any label touches, and `image_size`; no descriptors. `matches.h5`: for each ordered pair, by both names with dashes for
slashes, `matches0` (K0,), the target's keypoint of each of the source's, or -1, and `matching_scores0`, the cosine. `pairs.txt`: the names
of each pair. Pixels are hloc's, the centre of the first at 0."""


class HlocWriter(KeypointWriter):
    """All three files."""

    own_files = re.compile("|".join(map(re.escape, (FEATURES, MATCHES, PAIRS))))
    layout = _LAYOUT

    def step(self, state: ExportState) -> ExportState:
        if find_spec("h5py") is None:
            raise ConfigError("hloc's files are HDF5; install what writes it: pip install h5py (the extra hloc)")
        return super().step(state)

    def called(self, name: str) -> str:
        if len(name.split()) > 1:
            raise InputError(f"{name}: has a space in its name, which hloc's lists of pairs cannot hold; export with --names id")
        return plain(name)

    def write(self, rows: list[int], names: dict[int, str], used: UsedCells) -> None:
        import h5py

        with self.folder.writing(FEATURES) as stream, h5py.File(stream, "w") as features:
            for row in rows:
                image = features.create_group(names[row])
                image["keypoints"] = (self.centres(row, used) - 0.5).astype(np.float32)
                image["image_size"] = np.array(self.source.images.size(row))
        with (
            self.folder.writing(PAIRS) as pairs,
            self.folder.writing(MATCHES) as stream,
            h5py.File(stream, "w") as matches,
        ):
            for pair in self.pairs(used):
                source, target = names[pair.source], names[pair.target]
                _write_matches(matches, (source, target), pair, len(used.of(pair.source)))
                pairs.write(f"{source} {target}\n".encode())


def group_of(source: str, target: str) -> str:
    """The group of a pair, as hloc's ``names_to_pair`` has it."""
    return f"{plain(source)}/{plain(target)}"


def plain(name: str) -> str:
    """An image's name in that of a pair."""
    return name.replace("/", "-")


def _write_matches(file: Any, names: tuple[str, str], pair: KeypointMatches, count: int) -> None:
    best = np.full(count, -1, np.int32)
    scores = np.zeros(count, np.float16)
    # Each of the source's keypoints has one partner: of several the surest, which is written last.
    order = np.argsort(np.nan_to_num(pair.cosine), kind="stable")
    at = pair.matches[order, 0]
    best[at], scores[at] = pair.matches[order, 1], np.nan_to_num(pair.cosine[order])
    group = file.create_group(group_of(*names))
    group["matches0"], group["matching_scores0"] = best, scores
