"""All stages of the pipeline, in order: the one list from which runs, rejects, status, report and summary are made."""

from __future__ import annotations

from pipelines.runner.stage import Stage
from pipelines.stages.compare import CompareStage
from pipelines.stages.depth import DepthStage
from pipelines.stages.describe import DescribeStage
from pipelines.stages.embed import EmbedStage
from pipelines.stages.evaluate import EvaluateStage
from pipelines.stages.fit import FitStage
from pipelines.stages.judge import JudgeStage
from pipelines.stages.label import LabelStage
from pipelines.stages.match import MatchStage
from pipelines.stages.mirror import MirrorStage
from pipelines.stages.orient import JOINT, OrientStage
from pipelines.stages.reconstruct import ReconstructStage
from pipelines.stages.register import RegisterStage, is_registered
from pipelines.stages.render import RenderStage
from pipelines.stages.represent import RepresentStage
from pipelines.stages.sweep import SweepStage
from sc3d.config import RunConfig
from sc3d.records import ImageRecord
from sc3d.schema import column_meanings

STAGES: tuple[type[Stage], ...] = (
    ReconstructStage,
    RenderStage,
    OrientStage,
    RegisterStage,
    DescribeStage,
    EmbedStage,
    MatchStage,
    LabelStage,
    CompareStage,
    DepthStage,
    RepresentStage,
    FitStage,
    MirrorStage,
    EvaluateStage,
    JudgeStage,
    SweepStage,
)

LABELLING: tuple[type[Stage], ...] = tuple(kind for kind in STAGES if kind.command == "label")
"""Those between photos and labels."""

TIMED = (*(kind.name for kind in LABELLING), "train", "evaluate")
"""What the time of a run is told by."""


def stages_of(config: RunConfig) -> list[Stage]:
    """The stages of a configuration, in order; of a kind that goes method by method, one a method."""
    return [stage for kind in STAGES for stage in kind.instances(config)]


def chain_to(config: RunConfig, last: str) -> list[type[Stage]]:
    """The stages from photos to the one of a name, in order, that a configuration needs: renders where the front of a mesh goes by them,
    registrations where matches are verified by them, embeddings where pairs go by them."""
    needless = {
        RenderStage: config.orient.estimator not in JOINT,
        RegisterStage: not is_registered(config),
        EmbedStage: config.pairs.strategy != "nearest",
    }
    needed = [kind for kind in LABELLING if not needless.get(kind, False)]
    return needed[: [kind.name for kind in needed].index(last) + 1]


def graphs_of(config: RunConfig, last: str = "label") -> list[list[type[Stage]]]:
    """The same cut into graphs, inside of which blocks of ids stream.

    A graph ends where the next stage's ids are others, or where that needs whole categories.
    """
    graphs: list[list[type[Stage]]] = []
    for kind in chain_to(config, last):
        if not graphs or kind.key != graphs[-1][-1].key or kind(config).needs_whole_category():
            graphs.append([])
        graphs[-1].append(kind)
    return graphs


def columns_read(config: RunConfig) -> set[str]:
    """The columns of the image manifest that anything follows from which a configuration makes of images."""
    actors = [actor for kind in LABELLING if kind.key == "image_id" for actor in kind(config).actors()]
    return {column for actor in actors for column in actor.requires} & column_meanings(ImageRecord).keys()
