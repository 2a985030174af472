"""A small training set whose right descriptor is known: a hidden code a cell that all images share, between channels that mislead."""

import numpy as np

from sc3d.features import Features
from sc3d.grid import Letterbox
from sc3d.pair_ids import pair_id_of
from sc3d.records import Labels

SIDE = 8
CODES = 6


def make_features(images: int = 4, seed: int = 0) -> dict[str, Features]:
    """Each image shows the same SIDE x SIDE codes, cyclically shifted by its own offset, beside louder channels of its own."""
    rng = np.random.default_rng(seed)
    code = rng.normal(size=(CODES, SIDE, SIDE))
    described = {}
    for i in range(images):
        shifted = np.roll(code, shift_of(i), axis=(1, 2))
        dino = np.concatenate([shifted, 3 * rng.normal(size=(CODES, SIDE, SIDE))]).astype(np.float16)
        sd = rng.normal(size=(4, SIDE // 2, SIDE // 2)).astype(np.float16)
        name = f"img{i}"
        described[name] = Features(
            name, Letterbox(80, 80, side=SIDE), np.ones((SIDE, SIDE), bool), 80.0, {"dino": dino, "sd.s3": sd}
        )
    return described


def shift_of(image: int) -> tuple[int, int]:
    """Rows and columns by which an image's codes are shifted."""
    return image % SIDE, (3 * image) % SIDE


def make_labels(features: dict[str, Features], every: int = 1) -> list[Labels]:
    """All true correspondences of all ordered pairs; only each ``every``-th."""
    rows = []
    cells = np.arange(0, SIDE * SIDE, every)
    names = sorted(features)
    for s, source in enumerate(names):
        for t, target in enumerate(names):
            if s == t:
                continue
            move = np.subtract(shift_of(t), shift_of(s))
            there = (cells // SIDE + move[0]) % SIDE * SIDE + (cells % SIDE + move[1]) % SIDE
            n = len(cells)
            rows.append(
                Labels(
                    pair_id=pair_id_of(source, target),
                    source_id=source,
                    target_id=target,
                    category="thing",
                    source_xy=features[source].letterbox.centres(cells),
                    target_xy=features[target].letterbox.centres(there),
                    cosine=np.ones(n),
                    cycle_error=np.zeros(n),
                    geodesic_error=np.zeros(n),
                    source_extent=80.0,
                    source_cell=10.0,
                    n_candidates=n,
                    n_cycle=n,
                    n_kept=n,
                    tau_cc=0.05,
                    tau_geo=0.05,
                )
            )
    return rows
