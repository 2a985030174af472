"""A run folder filled stage by stage through the real records, without running the pipeline: what reports are tested with."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from commit_rows import commit_rows
from PIL import Image

from pipelines.folder.configuration import RUN
from pipelines.folder.manifest import IMAGES, PAIRS
from pipelines.report import page as report
from pipelines.runner.stage import Stage, StageSummary
from pipelines.runner.timings import record_summary
from pipelines.stages.describe import DescribeStage
from pipelines.stages.label import LabelStage
from pipelines.stages.match import MatchStage
from pipelines.stages.orient import OrientStage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config_file import load_config, to_values
from sc3d.features import encode_features
from sc3d.matching.described import Described
from sc3d.matching.label import match_pair
from sc3d.matching.thresholds import apply_thresholds
from sc3d.records import FeatureIndex, ImageRecord, Pair, Reject
from sc3d.store import RunFolder

EVIL = "<script>alert(1)</script>"
CATEGORIES = ("blob", "bump")


def load_scene() -> ModuleType:
    """The scenes of the report's own tests, which are in no package."""
    path = Path(__file__).parents[1] / "sc3d" / "report" / "scene.py"
    spec = importlib.util.spec_from_file_location("report_scene", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["report_scene"] = module
    spec.loader.exec_module(module)
    return module


class Made:
    """The run folder. ``pairs``: those that are matched and labelled; ``unlike``: one that the label stage rejects."""

    def __init__(self, folder: Path, images: int = 3) -> None:
        self.root = folder
        places = [f"run={json.dumps(str(folder / 'run'))}", f"dataset.root={json.dumps(EVIL)}"]
        self.config = load_config(overrides=[*places, "match.transfer=nearest"])
        self.run = RunFolder(self.config.run)
        scene = load_scene()
        self.scenes = {
            f"{category}-{i}": scene.scene_image(f"{category}-{i}", 10 * k + i, category, turn=90 * (i == 1))
            for k, category in enumerate(CATEGORIES)
            for i in range(images)
        }

    @classmethod
    def labelled(cls, folder: Path, images: int = 3) -> Made:
        """A run with everything up to the labels, and an annotated pair."""
        made = cls(folder, images)
        made.manifest(held_out=True)
        made.reconstruct()
        made.describe()
        made.match()
        made.label()
        return made

    def manifest(self, held_out: bool = False) -> None:
        images = []
        for image_id, one in self.scenes.items():
            path = self.root / f"{image_id}.png"
            Image.fromarray(one.photo).save(path)
            images.append(ImageRecord(image_id, str(path), one.reconstruction.category, inputs=f"inputs of {image_id}"))
        self.images = images
        self.pairs = [Pair.of(a, b) for a in images for b in images if a.category == b.category and a.image_id < b.image_id]
        self.unlike = Pair.of(images[2], images[0])
        extra = [dataclasses.replace(Pair.of(images[1], images[0]), split="test")] if held_out else []
        self.run.write_records(ImageRecord, IMAGES, images)
        self.run.write_records(Pair, PAIRS, [*self.pairs, self.unlike, *extra])
        self.run.write_json(RUN, {"config": to_values(self.config), "counts": {}, "versions": {"sc3d": "1.2.3"}})

    def commit(self, kind: type[Stage], rows: Iterable[Any], rejects: Sequence[Reject] = ()) -> None:
        stage, rows = kind(self.config), list(rows)
        for category in CATEGORIES:
            if mine := [row for row in rows if row.category == category]:
                commit_rows(stage, category, mine)
        if rejects:
            commit_rows(stage, CATEGORIES[0], [], rejects)
        items = len(rows) + len(rejects)
        record_summary(self.run, StageSummary(stage.name, items, items, len(rejects), 1.5))

    def reconstruct(self) -> None:
        self.commit(ReconstructStage, [s.reconstruction for s in self.scenes.values()])
        self.commit(OrientStage, [s.orientation for s in self.scenes.values()])

    def describe(self) -> None:
        stage = DescribeStage(self.config)
        records = []
        for image_id, one in self.scenes.items():
            data = encode_features(one.features)
            self.run.write_bytes(stage.feature_file(image_id), data)
            records.append(FeatureIndex(image_id, one.reconstruction.category, 1, 1, 1, len(data)))
        self.commit(DescribeStage, records)

    def match(self) -> None:
        described = {i: Described(s.features, self.config.match) for i, s in self.scenes.items()}
        self.matches = [
            match_pair(described[p.source_id], described[p.target_id], config=self.config.match, category=p.category)
            for p in self.pairs
        ]
        self.commit(MatchStage, self.matches)

    def label(self, nothing: bool = False) -> None:
        rejects = [Reject(self.unlike.pair_id, "label", "InputError", f"{EVIL} was not liked")]
        labels = [apply_thresholds(m, self.config.label) for m in self.matches]
        if nothing:
            labels = [dataclasses.replace(x, n_kept=0, **_emptied(x)) for x in labels]
        self.commit(LabelStage, labels, rejects)

    def page(self) -> str:
        path = report.run(self.config)
        assert path == f"{self.config.run}/report/index.html"
        return Path(path).read_text(encoding="utf-8")


def _emptied(labels: Any) -> dict[str, np.ndarray]:
    return {name: getattr(labels, name)[:0] for name in ("source_xy", "target_xy", "cosine", "cycle_error", "geodesic_error")}
