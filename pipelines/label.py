"""The main job: photos in, geometry-verified labels out. ``python -m pipelines.label --config run.yaml`` is what a Ray job runs."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.session import RaySession
from pipelines.describe import DescribeStage
from pipelines.embed import EmbedStage
from pipelines.execute import run_stage
from pipelines.manifest import prepare, read_pair_table
from pipelines.match import LabelStage, MatchStage
from pipelines.plan import plan_from_images
from pipelines.preflight import check_profile
from pipelines.progress import Progress
from pipelines.reconstruct import OrientStage, ReconstructStage
from pipelines.stage import Stage
from pipelines.timings import record_summary
from sc3d.config import RunConfig
from sc3d.shards import ITEMS, item_table
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


def run(config: RunConfig, until: type[Stage] = LabelStage) -> RunFolder:
    """Run the stages up to ``until`` on the configured data set; what is there already is not computed again.

    Raises:
        Sc3dError: the data set, the run folder or the configuration cannot be used, or too many records were rejected.
    """
    check_profile(config)
    images = prepare(config)
    folder = RunFolder(config.run)
    items = item_table((image.category, image.image_id) for image in images)
    with RaySession(config.ray) as ray, Progress() as progress:
        for kind in STAGES[: STAGES.index(until) + 1]:
            stage = kind(config)
            if kind is MatchStage:
                if config.pairs.needs_cues:
                    plan_from_images(config, images, progress, ray)
                items = read_pair_table(folder, labelled=True).select(["category", "pair_id"]).rename_columns(ITEMS.names)
            record_summary(folder, run_stage(stage, items, progress, ray))
            items = stage.artefacts.catalogue().among(items)
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m pipelines.label``: the same as ``sc3d label``."""
    from pipelines.cli import main as cli

    cli(["label", *(arguments if arguments is not None else _arguments())])


def _arguments() -> list[str]:
    import sys

    return sys.argv[1:]


if __name__ == "__main__":
    main()
