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
from sc3d.seals import take_away
from sc3d.store import RunFolder


@dataclass(frozen=True)
class Leftover:
    """What is left of a stage in the folder ``prefix``: ``rows`` that do not count, ``files`` without any that does, and ``mixed`` files,
    which have both. ``other``: of another configuration. ``doubled``: the rows among them of which another one counts."""

    stage: str
    prefix: str
    rows: int
    files: tuple[str, ...]
    mixed: tuple[str, ...] = ()
    other: bool = False
    doubled: int = 0


def find_leftovers(config: RunConfig) -> list[Leftover]:
    """What is left over in the run folder of a configuration, stage by stage."""
    stages = stages_of(config)
    found = [*(_of_stage(stage) for stage in stages), *_of_others(stages)]
    return [one for one in found if one.rows or one.files]


def remove_leftovers(config: RunConfig, leftovers: Sequence[Leftover], others: bool) -> int:
    """Delete the files of leftovers, those of other configurations only if ``others``, and write mixed files without what does not count;
    returns how many files are gone."""
    stages = {stage.artefacts.prefix: stage for stage in stages_of(config)}
    chosen = [one for one in leftovers if others or not one.other]
    replaced = [name for one in chosen for name in one.files]
    for one in chosen:
        if one.mixed:
            stage = stages[one.prefix]
            catalogue = stage.catalogue()
            replaced += [old for name in one.mixed for old in stage.artefacts.keep_counted(catalogue, name)]
    take_away(RunFolder(config.run), replaced)
    return sum(len(one.files) + len(one.mixed) for one in chosen)


def _of_stage(stage: Stage) -> Leftover:
    artefacts, catalogue = stage.artefacts, stage.catalogue()
    unused, mixed = artefacts.left_over(catalogue)
    rejects = [artefacts.reject_file_of(name) for name in unused]
    names = [*unused, *(name for name in rejects if stage.run.exists(name))]
    if isinstance(stage, FeatureStage):
        written = {stage.feature_file(image_id) for image_id in catalogue.located}
        names += [name for name in stage.run.names(artefacts.prefix, ".safetensors") if name not in written]
    rows = len(catalogue.file_of_others)
    return Leftover(stage.name, artefacts.prefix, rows, tuple(names), tuple(mixed), doubled=catalogue.doubled)


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
