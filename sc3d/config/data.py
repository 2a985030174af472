"""Which images a run works on."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from sc3d.addresses import ANY_BUCKET, buckets_of
from sc3d.config.options import STRICT, Count, Positive
from sc3d.web_hosts import PUBLIC, Hosts


def _hosts(listed: tuple[str, ...]) -> tuple[str, ...]:
    Hosts.of(listed)
    return listed


def _buckets(listed: tuple[str, ...]) -> tuple[str, ...]:
    buckets_of(listed)
    return listed


@dataclass(frozen=True, config=STRICT)
class DownloadConfig:
    """Whom addresses in data may lead to, how long to try for a photo on the web, and how large one may be, wherever it lies.

    It is loaded once a stage that looks at pixels.
    """

    timeout: Annotated[Positive, Field(description="seconds without a byte after which a connection is given up")] = 15.0
    deadline: Annotated[Positive, Field(description="seconds for a photo, all tries together")] = 60.0
    attempts: Annotated[Count, Field(description="tries at most, where the server is away or overloaded")] = 3
    max_megabytes: Annotated[Count, Field(description="size of the file of a photo or mask at most, wherever it lies")] = 100
    hosts: Annotated[
        tuple[str, ...],
        AfterValidator(_hosts),
        Field(
            description="hosts on the web that may be asked: public, for all that are not of a private network or a machine; names and "
            "addresses, also with :port; blocks of addresses (10.1.0.0/16)"
        ),
    ] = (PUBLIC,)
    buckets: Annotated[
        tuple[str, ...],
        AfterValidator(_buckets),
        Field(
            description="buckets that may be asked, and where they are: s3://bucket, with the options of a run folder's address "
            "(?region=...&scheme=...&endpoint_override=host:port); s3://*: all others"
        ),
    ] = (ANY_BUCKET,)

    @property
    def max_bytes(self) -> int:
        """``max_megabytes`` in bytes."""
        return self.max_megabytes * 1_000_000


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
    follow_links: Annotated[
        bool, Field(description="look into sub-folders of the photos and masks that are links, which may lead out of them")
    ] = False
    facing: Annotated[
        str | None,
        Field(description="CSV file of image ids and the side that each photo shows (front, rear-left, degrees); see sc3d orient"),
    ] = None
    categories: Annotated[tuple[str, ...], Field(description="only these categories; none: all")] = ()
    download: Annotated[DownloadConfig, Field(description="whom photos are fetched from, how, and their size")] = DownloadConfig()
    subset: Annotated[
        str | None,
        Field(
            description="which annotated pairs; ap10k: intra-species, cross-species or cross-family; spair and toys: large or small; "
            "none: the first of these"
        ),
    ] = None
