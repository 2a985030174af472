"""Where the published data sets come from. Nothing here is ever downloaded by the program."""

from __future__ import annotations

from sc3d.datasets.dataset import Source
from sc3d.datasets.registry import DATASETS, dataset_of

SOURCES: dict[str, Source] = {kind: source for kind in DATASETS if (source := dataset_of(kind).source) is not None}
"""Kind of a data set of the project -> how to get it."""
