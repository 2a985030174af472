"""What lies in a run folder and does not count: rows that no manifest or plan names any more, and artefacts of other configurations.

It does no harm, since nobody reads it. It takes room, and some of it would save work: whoever goes back to an earlier configuration finds
what that has made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipelines.runner.stage import Stage
from pipelines.stages.describe import FeatureStage
from pipelines.stages.registry import stages_of
from sc3d.config import RunConfig
from sc3d.store import RunFolder


@dataclass(frozen=True)
class Leftover:
    """What is left of a stage: ``rows`` that do not count, and the ``files`` without any that does. ``other``: of another configuration,
    in the folder ``prefix``."""

    stage: str
    prefix: str
    rows: int
    files: tuple[str, ...]
    other: bool = False


def find_leftovers(config: RunConfig) -> list[Leftover]:
    """What is left over in the run folder of a configuration, stage by stage."""
    stages = stages_of(config)
    found = [*(_of_stage(stage) for stage in stages), *_of_others(stages)]
    return [one for one in found if one.rows or one.files]


def remove_leftovers(run: RunFolder, leftovers: Sequence[Leftover], others: bool) -> int:
    """Delete the files of leftovers, those of other configurations only if ``others``; returns how many there were."""
    names = [name for one in leftovers if others or not one.other for name in one.files]
    for name in names:
        run.delete(name)
    return len(names)


def _of_stage(stage: Stage) -> Leftover:
    artefacts, catalogue = stage.artefacts, stage.catalogue()
    # The file of a shard whose rows were all rejected says that it is done.
    kept = {*catalogue.files_used, *artefacts.files_of_rejects(stage.counted)}
    unused = [name for name in artefacts.files() if name not in kept]
    rejects = [artefacts.reject_file_of(name) for name in unused]
    names = [*unused, *(name for name in rejects if stage.run.exists(name))]
    if isinstance(stage, FeatureStage):
        written = {stage.feature_file(image_id) for image_id in catalogue.located}
        names += [name for name in stage.run.names(artefacts.prefix, ".safetensors") if name not in written]
    return Leftover(stage.name, artefacts.prefix, catalogue.others, tuple(names))


def _of_others(stages: Sequence[Stage]) -> Iterator[Leftover]:
    run, present = stages[0].run, {stage.artefacts.prefix for stage in stages}
    for folder, kind in {stage.folder: stage for stage in stages}.items():
        prefixes: dict[str, list[str]] = {}
        for name in run.names(folder):
            if name.count("/") > 1:
                prefixes.setdefault("/".join(name.split("/")[:2]), []).append(name)
        for prefix, names in sorted(prefixes.items()):
            # Imported labels are nobody's to make again.
            if prefix not in present and not run.exists(f"{prefix}.json"):
                yield Leftover(kind.name, prefix, 0, tuple(names), other=True)
