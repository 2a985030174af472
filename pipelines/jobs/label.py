"""The main job: photos in, geometry-verified labels out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from actors.catalogue import pin_sources
from pipelines.folder.manifest import prepare, read_pair_items
from pipelines.jobs.job import Job
from pipelines.jobs.preflight import check_models
from pipelines.jobs.references import assign_references
from pipelines.jobs.templates import assign_templates
from pipelines.runner.flow import Flow, Leg
from pipelines.runner.progress import Progress
from pipelines.runner.run import GraphRun
from pipelines.runner.stage import Stage
from pipelines.runner.timings import record_summary
from pipelines.stages.planning import plan_from_images
from pipelines.stages.register import RegisterStage
from pipelines.stages.registry import columns_read, graphs_of
from sc3d.config import RunConfig
from sc3d.errors import InputError
from sc3d.records import LABELLED_SPLIT, ImageRecord
from sc3d.shards import item_table
from sc3d.store import RunFolder

_LISTED = 5


def run(config: RunConfig, until: str = "label", retry_rejects: bool = False) -> RunFolder:
    """Run the stages up to the one called ``until`` on the configured data set; what is there already is not computed again.

    ``retry_rejects``: try again what earlier runs of this configuration rejected.

    Raises:
        Sc3dError: the data set, the run folder or the configuration cannot be used, or too many records were rejected.
    """
    with Job(config, until, new=True, retry_rejects=retry_rejects) as job:
        config = job.config
        graphs = graphs_of(config, until)
        check_models(config, job.ray, graphs)
        paired = any(kinds[0].key == "pair_id" for kinds in graphs)

        def amend(images: Sequence[ImageRecord]) -> Sequence[ImageRecord]:
            if paired:
                check_partners(images, job.progress.say)
            return assign_templates(config, images, job.progress.say)

        images = prepare(config, columns_read(config), job.progress.counting("photos"), amend, job.progress.say)
        config = pin_sources(config)
        job.begin(record=False)
        legs: list[Leg] = []
        before = None
        for kinds in graphs:
            graph = [kind(config) for kind in kinds]
            expected = len(images) if graph[0].key == "image_id" else 0
            work = GraphRun(graph, job.progress, job.ray, expected, job.lease.check)
            legs.append(Leg(work, partial(_items, config, images, graph[0], before, job.progress)))
            before = graph[-1]
        finished = partial(record_summary, job.folder)
        Flow(legs, job.ray.is_cluster, finished).run(sorted({image.category for image in images}))
    return job.folder


def check_partners(images: Sequence[ImageRecord], say: Callable[[str], None]) -> None:
    """Say which photos have no other of their category to be paired with.

    Raises:
        InputError: none of the images has one, and none is of an annotated pair.
    """
    counts = Counter(image.category for image in images if image.split == LABELLED_SPLIT)
    alone = sorted(category for category, count in counts.items() if count == 1)
    listed = ", ".join(alone[:_LISTED]) + (f" and {len(alone) - _LISTED:,} more" if len(alone) > _LISTED else "")
    if alone and len(alone) == len(images):
        raise InputError(
            f"there is one photo alone of {listed}, and a label links two photos of one category: give at least two. "
            "sc3d describe takes one, as far as its mesh and its features"
        )
    if alone:
        say(f"  photos: there is one alone of {listed}; it has no partner, and gives no labels")


def _items(
    config: RunConfig,
    images: Sequence[ImageRecord],
    first: Stage,
    before: Stage | None,
    progress: Progress,
    categories: Sequence[str],
) -> pa.Table:
    """What a graph that begins with ``first`` works on in some categories, when ``before``, the stage before it, is through with them."""
    if first.key == "image_id":
        chosen = set(categories)
        items = item_table((image.category, image.image_id) for image in images if image.category in chosen)
        items = before.catalogue().among(items) if before else items
        if isinstance(first, RegisterStage):
            assign_references(RegisterStage(config), items)
        return items
    if config.pairs.needs_cues:
        plan_from_images(config, [image for image in images if image.category in set(categories)], progress.say)
    pairs = read_pair_items(first.run)
    return pairs.filter(pc.is_in(pairs["category"], value_set=pa.array(list(categories))))
