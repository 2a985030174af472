"""Which images a run works on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from sc3d.config.options import STRICT, Count, Positive


@dataclass(frozen=True, config=STRICT)
class DownloadConfig:
    """How long to try for a photo on the web, and how large one may be. It is loaded once a stage that looks at pixels."""

    timeout: Annotated[Positive, Field(description="seconds without a byte after which a connection is given up")] = 15.0
    deadline: Annotated[Positive, Field(description="seconds for a photo, all tries together")] = 60.0
    attempts: Annotated[Count, Field(description="tries at most, where the server is away or overloaded")] = 3
    max_megabytes: Annotated[Count, Field(description="size of the file of a photo or mask at most, wherever it lies")] = 100


@dataclass(frozen=True, config=STRICT)
class DatasetConfig:
    """Which images to work on."""

    kind: Annotated[
        str,
        Field(
            description="what lies at the root: folder, table, toys, spair, spair-u, ap10k, pf-pascal, pf-willow or tss; of one's own: "
            "module:Name, or an entry point of sc3d.datasets"
        ),
    ] = "folder"
    root: Annotated[str, Field(description="folder of the dataset, or of the photos; or a table of photos")] = ""
    category: Annotated[str | None, Field(description="category of all photos of a folder; none: its sub-folders name them")] = None
    masks: Annotated[str | None, Field(description="folder of mask files with the photos' stems")] = None
    categories: Annotated[tuple[str, ...], Field(description="only these categories; none: all")] = ()
    download: Annotated[DownloadConfig, Field(description="how photos are fetched, and their size")] = DownloadConfig()
    subset: Annotated[
        str | None,
        Field(
            description="which annotated pairs; ap10k: intra-species, cross-species or cross-family; spair and toys: large or small; "
            "none: the first of these"
        ),
    ] = None
