"""The main job: photos in, geometry-verified labels out. ``python -m pipelines.jobs.label --config run.yaml`` is what a Ray job runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from actors.catalogue import pin_sources
from cluster.session import RaySession
from pipelines.stages.describe import DescribeStage
from pipelines.stages.embed import EmbedStage
from pipelines.runner.run import SectionRun
from pipelines.runner.flow import Flow, Leg
from pipelines.folder.manifest import prepare, read_pair_items
from pipelines.stages.match import LabelStage, MatchStage
from pipelines.stages.planning import plan_from_images
from pipelines.jobs.preflight import check_models
from pipelines.runner.progress import Progress
from pipelines.stages.reconstruct import OrientStage, ReconstructStage
from pipelines.runner.stage import Stage
from pipelines.report.status import StatusWriter
from pipelines.runner.timings import record_summary
from sc3d.config import RunConfig
from sc3d.lease import RunLease
from sc3d.records import ImageRecord
from sc3d.shards import item_table
from sc3d.store import RunFolder

STAGES: tuple[type[Stage], ...] = (ReconstructStage, OrientStage, DescribeStage, MatchStage, LabelStage)
EVERY_STAGE: tuple[type[Stage], ...] = (ReconstructStage, OrientStage, DescribeStage, EmbedStage, MatchStage, LabelStage)
"""With those that only some ways to choose pairs need."""


STAGE_OF: dict[str, type[Stage]] = {
    "label": LabelStage,
    "reconstruct": ReconstructStage,
    "describe": DescribeStage,
    "match": MatchStage,
}


def run(config: RunConfig, until: type[Stage] = LabelStage, retry_rejects: bool = False) -> RunFolder:
    """Run the stages up to ``until`` on the configured data set; what is there already is not computed again.

    ``retry_rejects``: try again what earlier runs of this configuration rejected.

    Raises:
        Sc3dError: the data set, the run folder or the configuration cannot be used, or too many records were rejected.
    """
    folder = RunFolder(config.run)
    with RunLease(folder) as lease, RaySession(config.ray) as ray, Progress() as progress, StatusWriter(folder, "label", progress):
        sections = sections_of(config, until)
        check_models(config, ray, sections)
        images = prepare(config)
        config = pin_sources(config)
        if retry_rejects:
            again = sum(kind(config).artefacts.forget_rejects() for kind in EVERY_STAGE)
            progress.say(f"  {again} rejected records are tried again")
        legs: list[Leg] = []
        before = None
        for kinds in sections:
            section = [kind(config) for kind in kinds]
            expected = len(images) if section[0].key == "image_id" else 0
            legs.append(
                Leg(
                    SectionRun(section, progress, ray, expected, lease.check),
                    partial(_items, config, images, section[0], before, progress),
                )
            )
            before = section[-1]
        Flow(legs, ray.is_cluster, partial(record_summary, folder)).run(sorted({image.category for image in images}))
    return folder


def sections_of(config: RunConfig, until: type[Stage] = LabelStage) -> list[list[type[Stage]]]:
    """The stages up to ``until`` in sections, inside of which blocks of ids stream.

    A section ends where the next stage's ids are others, or where it needs whole categories.
    """
    embedding = (EmbedStage,) if config.pairs.strategy == "nearest" else ()
    stages: list[type[Stage]] = [ReconstructStage, OrientStage, DescribeStage, *embedding, MatchStage, LabelStage]
    sections: list[list[type[Stage]]] = []
    for kind in stages[: stages.index(until) + 1]:
        if not sections or kind.key != sections[-1][-1].key or kind(config).needs_whole_category():
            sections.append([])
        sections[-1].append(kind)
    return sections


def _items(
    config: RunConfig,
    images: Sequence[ImageRecord],
    first: Stage,
    before: Stage | None,
    progress: Progress,
    categories: Sequence[str],
) -> pa.Table:
    """What a section that begins with ``first`` works on in some categories, when ``before``, the stage before it, is through with them."""
    if first.key == "image_id":
        chosen = set(categories)
        items = item_table((image.category, image.image_id) for image in images if image.category in chosen)
        return before.artefacts.catalogue().among(items) if before else items
    if config.pairs.needs_cues:
        plan_from_images(config, [image for image in images if image.category in set(categories)], progress.say)
    pairs = read_pair_items(first.run)
    return pairs.filter(pc.is_in(pairs["category"], value_set=pa.array(list(categories))))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m pipelines.jobs.label``: the same as ``sc3d label``."""
    from pipelines.cli import main as cli

    cli(["label", *(arguments if arguments is not None else _arguments())])


def _arguments() -> list[str]:
    import sys

    return sys.argv[1:]


if __name__ == "__main__":
    main()
