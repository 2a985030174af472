"""Labels that others made -> ``labels/<recipe>/`` of a run folder, in the same form as its own, so that training can read them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from pipelines.jobs.export import labelled_images
from pipelines.jobs.job import Job
from pipelines.stages.label import label_artefacts
from sc3d.artefacts import MISSING
from sc3d.config import RunConfig
from sc3d.counted_labels import made_from, origin_file
from sc3d.datasets.label_export import diy_sc
from sc3d.datasets.label_export.images import LabelledImages
from sc3d.errors import ConfigError, InputError
from sc3d.records import LABELLED_SPLIT, SPLITS, Labels
from sc3d.shards import Shard, recipe_of
from sc3d.store import RunFolder

_EXAMPLES = 3


@dataclass(frozen=True)
class ImportSummary:
    """What was imported: the ``recipe`` of the labels, where they are, and counts; ``mirrored`` and ``unknown`` were left out."""

    recipe: str
    uri: str
    pairs: int
    labels: int
    annotations: int
    mirrored: int
    unknown: int


def import_labels(config: RunConfig, folder: str, split: str = LABELLED_SPLIT, skip_unknown: bool = False) -> ImportSummary:
    """Import the annotation files of DIY-SC, ``<folder>/<split>/<category>_anns.pt``, local or on S3.

    All files are checked before the first row is written; the same files make the same rows in the same place, so an import that was
    killed is simply repeated. Pairs that occur several times become one. Matches to mirrored targets are left out: the run has no features
    of mirrored images, and on the image as it is they would exchange left and right.

    Args:
        config: of a run whose manifest has the images.
        folder: the folder that holds ``trn`` and ``val``.
        split: which of the two.
        skip_unknown: leave out annotations of images that the manifest does not have, instead of refusing them.

    Raises:
        ConfigError: no such split.
        InputError: there are no such files, one of them is damaged or malformed, or it names unknown images.
        StoreError: the folder cannot be read or the run folder not be written.
    """
    if split not in SPLITS:
        raise ConfigError(f"split must be one of {', '.join(SPLITS)}; got '{split}'")
    source = RunFolder(folder)
    names = [name for name in source.names(split, diy_sc.SUFFIX) if name.count("/") == 1]
    if not names:
        raise InputError(f"{source.uri}/{split} holds no files named <category>{diy_sc.SUFFIX}")
    with Job(config, "import") as job:
        config, images = job.config, labelled_images(job.config)
        reader = _Reader(source, images, skip_unknown)
        tally: Counter[str] = Counter()
        digests: dict[str, str] = {}
        line = job.progress.start("check", len(names))
        for name in names:
            data = _read(source, name)
            digests[name] = hashlib.sha256(data).hexdigest()
            for _ in reader.labels(name, data, tally):
                pass
            line.advance(1)
        line.finish()
        if not tally["pairs"]:
            raise InputError(f"{source.uri}/{split}: {len(names)} files without a label for this run's images")
        job.begin()
        artefacts = label_artefacts(config, recipe_of("import", {"files": digests, "schema": Labels.SCHEMA_VERSION}))
        size = config.ray.pairs_per_shard
        # First, since without it nobody takes the rows for imported ones.
        origin = f"These labels were imported from {len(names)} annotation files in DIY-SC's format."
        job.folder.write_json(origin_file(artefacts), {"origin": origin, "files": digests})
        line = job.progress.start("import", len(names))
        for name in names:
            rows = {labels.pair_id: labels for labels in reader.labels(name, _read(source, name), Counter())}
            wanted = made_from(job.folder, pa.array(sorted(rows), pa.string()), "photo")
            missing = wanted.filter(pa.array(artefacts.standing(wanted).state == MISSING))
            for start in range(0, len(missing), size):
                part = missing.slice(start, size).to_pydict()
                chosen = [rows[id_] for id_ in part["id"]]
                artefacts.commit(Shard(chosen[0].category, tuple(part["id"]), tuple(part["inputs"])), chosen, [])
            line.advance(1)
        line.finish()
    return ImportSummary(
        artefacts.recipe,
        f"{job.folder.uri}/{artefacts.prefix}",
        **{name: tally[name] for name in ("pairs", "labels", "annotations", "mirrored", "unknown")},
    )


def _read(source: RunFolder, name: str) -> bytes:
    return source.read_bytes(name, diy_sc.MAX_FILE_BYTES)


class _Reader:
    """Annotation files as label rows of a run's images."""

    def __init__(self, source: RunFolder, images: LabelledImages, skip_unknown: bool) -> None:
        self._source, self._images, self._skip_unknown = source, images, skip_unknown

    def labels(self, name: str, data: bytes, tally: Counter[str]) -> Iterator[Labels]:
        """The label rows of a file, one a pair."""
        where = f"{self._source.uri}/{name}"
        category = name.rpartition("/")[2].removesuffix(diy_sc.SUFFIX)
        rows = self._rows_by_name(category)
        found: dict[tuple[int, int], list[diy_sc.Annotation]] = {}
        unknown: list[str] = []
        for annotation in diy_sc.read_annotations(data, where):
            tally["annotations"] += 1
            missing = [n for n in (annotation.source_name, annotation.target_name) if n not in rows]
            if annotation.mirrored:
                tally["mirrored"] += 1
            elif missing:
                tally["unknown"] += 1
                unknown += missing
            elif len(annotation.source_cells):
                source, target = rows[annotation.source_name], rows[annotation.target_name]
                self._learn_size(source, annotation.source_size, where)
                self._learn_size(target, annotation.target_size, where)
                found.setdefault((source, target), []).append(annotation)
        if unknown and not self._skip_unknown:
            examples = list(dict.fromkeys(unknown))
            more = f" and {len(examples) - _EXAMPLES} more" if len(examples) > _EXAMPLES else ""
            raise InputError(
                f"{where}: the run's category '{category}' has no image {', '.join(examples[:_EXAMPLES])}{more}; is it a run on the same "
                "images? --skip-unknown leaves them out"
            )
        for (source, target), group in found.items():
            sizes = self._images.size(source), self._images.size(target)
            labels = diy_sc.labels_of(group, (self._images.ids[source], self._images.ids[target]), sizes, category)
            tally["pairs"] += 1
            tally["labels"] += len(labels)
            yield labels

    def _learn_size(self, row: int, stated: tuple[int, int] | None, where: str) -> None:
        known = self._images.known_sizes[row]
        if stated is None:
            return
        if not known[0]:
            known[:] = stated
        elif tuple(known.tolist()) != stated:
            raise InputError(
                f"{where}: says that {self._images.file_name(row)} has {stated[0]} x {stated[1]} pixels, the run's has {known[0]} x "
                f"{known[1]}; the labels are of another version of the image"
            )

    def _rows_by_name(self, category: str) -> Mapping[str, int]:
        """Name in annotation files -> row of the manifest: the image's file name, or its id with the file's ending."""
        images = self._images
        rows = [row for row, one in enumerate(images.categories) if one == category]
        names = Counter(images.file_name(row) for row in rows)
        by_name = {images.name_by_id(row): row for row in rows}
        return {**{images.file_name(row): row for row in rows if names[images.file_name(row)] == 1}, **by_name}
