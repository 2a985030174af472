"""What 3D-SC (arXiv 2605.30093) prints, to set beside measured rows: marked ``published``, since this project did not measure it."""

from __future__ import annotations

from sc3d.evaluation.pck import ALL, GEO_AWARE, PER_IMAGE
from sc3d.evaluation.tables import Row, pck_row

_SPAIR_TEST_PAIRS = 12_234

_PUBLISHED_PCK: dict[tuple[str, str], dict[str, tuple[float, float, float]]] = {
    # PCK per image at 0.01, 0.05 and 0.10 in percent, as 3D-SC (arXiv 2605.30093) prints them.
    ("SPair-71k", ALL): {
        "DINOv2 nearest": (6.3, 38.4, 53.9),
        "DIFT": (7.2, 39.7, 52.9),
        "SD+DINOv2": (7.9, 44.7, 59.9),
        "DIY-SC with OrientAnything": (9.5, 51.2, 69.6),
        "DIY-SC with human pose": (10.1, 53.8, 71.6),
        "3D-SC": (10.2, 54.8, 73.0),
        "Geo-SC (supervised)": (21.7, 72.8, 83.2),
        "SemAlign3D (supervised)": (15.8, 77.5, 88.9),
        "MARCO (supervised)": (27.0, 77.6, 87.2),
    },
    ("SPair-71k", GEO_AWARE): {"3D-SC": (7.8, 50.1, 70.8)},
    ("SPair-U", ALL): {"3D-SC": (5.6, 43.5, 67.3)},
}

_PUBLISHED_AP10K = {"intra-species": 69.6, "cross-species": 68.5, "cross-family": 56.9}

_PUBLISHED_FILTERS = {
    # FPR in percent and labels a pair on SPair-71k's validation split: without, then with 3D descriptors.
    "spherical mapper": ((10.95, 1856), (10.75, 2001)),
    "triplane": ((13.15, 1948), (13.07, 2090)),
    "PartField feature similarity": ((2.81, 1608), (2.47, 1694)),
    "bicyclic geodesic": ((1.82, 1543), (1.78, 1634)),
}


def published_pck_rows() -> list[Row]:
    """PCK rows of the paper, with ``published: True``; not measured by this project."""
    rows = []
    for (dataset, subset), methods in _PUBLISHED_PCK.items():
        pairs = _SPAIR_TEST_PAIRS if dataset == "SPair-71k" and subset == ALL else None
        for method, values in methods.items():
            for alpha, value in zip((0.01, 0.05, 0.10), values, strict=True):
                rows.append(pck_row(method, dataset, subset, alpha, PER_IMAGE, round(value / 100, 4), pairs))
    for split, value in _PUBLISHED_AP10K.items():
        rows.append(pck_row("3D-SC", f"AP-10K {split}", ALL, 0.10, PER_IMAGE, round(value / 100, 4), None))
    return [row | {"published": True} for row in rows]


def published_filter_rows() -> list[Row]:
    """Filter rows of the paper, with ``published: True``; not measured by this project."""
    return [
        {"filter": name, "descriptors": descriptors, "fpr": round(fpr / 100, 6), "kept": kept, "pairs": None, "published": True}
        for name, both in _PUBLISHED_FILTERS.items()
        for descriptors, (fpr, kept) in zip(("SD+DINO", "SD+DINO+3D"), both, strict=True)
    ]
