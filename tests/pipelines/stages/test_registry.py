"""Every stage depends on what it declares and on nothing else: all stages, all options, all inputs of a row."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.folder.images import IMAGES
from pipelines.folder.inputs import with_inputs
from pipelines.folder.manifest import PAIRS
from pipelines.stages.registry import STAGES, chain_to, columns_read, graphs_of, stages_of
from sc3d.config import RunConfig
from sc3d.config_file import flat_values, load_config, parse_config, to_values
from sc3d.records import ImageRecord, Pair
from sc3d.store import RunFolder

# Tiny models, so that no weights are needed to say what a slot with a foundation model depends on.
BASE = ["models.variant=tiny", "evaluate.methods=[zero-shot]"]

FOUNDATION = [
    "profile=foundation",
    "reconstruct.mask=file_or_sam3",
    "describe.dino=dinov2",
    "evaluate.flip=mask",
    "evaluate.labellings=[diy-sc]",
    "compare.labelling=diy-sc",
    "sweep.objective=pck",
]

EVERY_READOUT = {"evaluate.window", "evaluate.temperature", "evaluate.masking"}
WEIGHTS = {"match.alpha", "match.beta"}

# Option -> the stages that read it themselves; an option that is not here is read by no stage.
READ_BY: dict[str, set[str]] = {
    "seed": {"reconstruct", "represent", "fit"},
    "reconstruct.mask": {"reconstruct"},
    "reconstruct.mesh": {"reconstruct"},
    "reconstruct.max_vertices": {"reconstruct"},
    "reconstruct.wrong_yaw": {"reconstruct"},
    "orient.estimator": {"orient"},
    "orient.anchors": {"orient"},
    "orient.min_certainty": {"orient"},
    "describe.dino": {"describe", "mirror"},
    "describe.sd": {"describe", "mirror"},
    "describe.shape": {"describe"},
    "describe.ball_radius": {"describe"},
    # Of a sweep's grid the present weights are a part where they are not on it.
    **{option: {"match", "compare", "evaluate", "judge", "sweep", "represent", "fit"} for option in WEIGHTS},
    "match.tau_cc": {"match"},
    "match.tau_geo": {"match"},
    "match.transfer": {"match", "compare", "judge", "sweep"},
    "match.tau_reprojection": {"match", "compare", "judge", "sweep"},
    "match.template_prior": {"match", "compare", "judge", "sweep"},
    "label.tau_cc": {"label", "compare", "judge"},
    "label.tau_geo": {"label", "compare", "judge"},
    "label.max_mask_signs": {"label"},
    "label.min_agreement": {"label", "judge", "compare"},
    "compare.labelling": {"compare"},
    "represent.features": {"represent", "fit"},
    "represent.landmarks": {"represent"},
    "represent.depth": {"represent", "fit"},
    "represent.images": {"represent"},
    "represent.poses": {"represent", "fit"},
    "represent.points": {"represent"},
    "represent.hypotheses": {"fit"},
    "dataset.kind": {"reconstruct", "represent", "evaluate", "judge"},
    "evaluate.methods": {"evaluate"},
    **{option: {"evaluate"} for option in EVERY_READOUT},
    "evaluate.flip": {"evaluate"},
    "evaluate.unit": {"evaluate", "judge"},
    "evaluate.labellings": {"judge"},
    "sweep.steps": {"sweep"},
    "sweep.objective": {"sweep"},
    "sweep.tau_cc": {"sweep"},
    "sweep.tau_geo": {"sweep"},
}

# The same of a configuration with the foundation models and every condition turned on.
READ_BY_FOUNDATION: dict[str, set[str]] = {
    **{
        option: stages
        for option, stages in READ_BY.items()
        if option not in {"orient.anchors", "orient.min_certainty", "reconstruct.wrong_yaw"}
    },
    "seed": {"reconstruct", "describe", "represent", "fit"},
    "match.transfer": {"match", "judge", "sweep"},
    "match.tau_reprojection": {"match", "judge", "sweep"},
    "match.template_prior": {"match", "judge", "sweep"},
    **{option: {"evaluate", "sweep"} for option in EVERY_READOUT},
    "evaluate.unit": {"evaluate", "judge", "sweep"},
    "dataset.kind": {"reconstruct", "evaluate", "judge", "sweep"},
    "compare.spheres": {"compare", "judge"},
    # Chains go through images of viewpoints between, which the turned meshes tell.
    **{option: {"orient", "compare", "judge"} for option in ("orient.estimator", "orient.views", "orient.min_votes")},
    "models.dtype": {"reconstruct", "orient", "describe", "mirror"},
    "models.sam3d_steps": {"reconstruct"},
    "models.sam3d_distilled": {"reconstruct"},
    "models.dinov2_positions": {"describe", "mirror"},
    **{f"models.sd_{name}": {"describe", "mirror"} for name in ("timestep", "seed", "prompt", "tile", "freeu")},
    "models.partfield_dims": {"describe"},
}
OTHER: dict[str, Any] = {
    "ray.workers": 3,
    "run": "elsewhere",
    "dataset.kind": "spair",
    "dataset.category": "car",
    "dataset.masks": "masks",
    "dataset.facing": "facing.csv",
    "dataset.categories": ("car",),
    "dataset.subset": "small",
    "dataset.download.hosts": ("example.org",),
    "dataset.download.buckets": ("s3://photos",),
    "reconstruct.mask": "grabcut",
    "reconstruct.mesh": "inflate",
    "reconstruct.template": "car.glb",
    "reconstruct.template_up": "-y",
    "reconstruct.template_front": "-x",
    "orient.estimator": "none",
    "describe.dino": "dinov3",
    "describe.sd": "dift",
    "describe.ball_radius": 0.5,
    "pairs.max_per_category": 3,
    "match.alpha": 0.4,
    "match.beta": 0.3,
    "compare.labelling": "2d",
    "compare.spheres": "spheres",
    "represent.depth": "toys",
    "evaluate.methods": ("dino",),
    "evaluate.alphas": (0.2,),
    "evaluate.labellings": ("2d",),
    "evaluate.max_pairs_per_category": 2,
    "sweep.tau_cc": (0.02,),
    "sweep.tau_geo": (0.02,),
    "sweep.labels": 3.0,
    "sweep.space": {"train.dropout": [0.1]},
    "sweep.hours": 1.0,
    "sweep.trial_steps": 3,
    "sweep.trial_gpus": 1.0,
    "train.labels": "abc",
    "train.initial": "adapter.safetensors",
    "train.validate_every": 3,
    "train.trackers": (),
    "train.cache": "cache",
    "models.dtype": "bfloat16",
    "models.cache": "cache",
    "models.sam3d_environment": "sam3d",
    "models.sam3d_steps": 5,
    "models.orient_anything_v2_repository": "clone",
    "models.partfield_dims": 8,
    "ray.address": "auto",
    "ray.pools": {"Sam3dReconstruct": {"max": 2}},
}
OTHER_FOUNDATION = {"describe.shape": "spectral", "evaluate.flip": "mutual", "sweep.objective": "fpr"}
OTHER_OFFLINE = {"describe.shape": "partfield"}


def other_value(option: str, value: Any, kind: Any) -> Any:
    """Another value that the option may have."""
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is typing.Literal:
        return next(one for one in typing.get_args(kind) if one != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 0.9 if value else 0.1
    if isinstance(value, str):
        return f"{value}x"
    raise AssertionError(f"{option} = {value!r} of {kind}: name another value in OTHER")


def options_of(config: RunConfig) -> Iterator[tuple[str, Any, Any]]:
    """Each option with its value and its type."""

    def walk(part: Any, prefix: str) -> Iterator[tuple[str, Any, Any]]:
        hints = typing.get_type_hints(type(part), include_extras=True)
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            if dataclasses.is_dataclass(value):
                yield from walk(value, f"{prefix}{field.name}.")
            else:
                yield f"{prefix}{field.name}", value, hints[field.name]

    yield from walk(config, "")


def changed(config: RunConfig, option: str, value: Any) -> RunConfig:
    values = to_values(config)
    *path, last = option.split(".")
    inner = values
    for part in path:
        inner = inner[part]
    inner[last] = value
    return parse_config(values)


def recipes(config: RunConfig) -> dict[str, str]:
    return {stage.name: stage.recipe for stage in stages_of(config)}


def dependants(config: RunConfig, direct: set[str]) -> set[str]:
    """Those stages and all that are made from what they make."""
    made_from = {stage.name: {other.name for other in stage.upstream} for stage in stages_of(config)}
    found = set(direct)
    while more := {name for name, upstream in made_from.items() if upstream & found} - found:
        found |= more
    return found


@pytest.mark.parametrize(
    ("base", "read_by", "others"), [(BASE, READ_BY, OTHER_OFFLINE), ([*BASE, *FOUNDATION], READ_BY_FOUNDATION, OTHER_FOUNDATION)]
)
def test_an_option_makes_exactly_its_dependants_anew(base: list[str], read_by: dict[str, set[str]], others: dict[str, Any]) -> None:
    config = load_config(None, base)
    before = recipes(config)
    options = list(options_of(config))
    assert {option for option, _, _ in options} == set(flat_values(config))
    wrong = []
    for option, value, kind in options:
        if option == "models.variant":
            # Chooses the actors of all slots.
            continue
        chosen = {**OTHER, **others}
        other = chosen[option] if option in chosen else other_value(option, value, kind)
        after = recipes(changed(config, option, other))
        anew = {name for name in before if after.get(name) != before[name]}
        prefix = "reconstruct" if option.startswith("reconstruct.align.") else None
        wanted = dependants(config, {prefix} if prefix else read_by.get(option, set()))
        wrong += [(option, sorted(anew ^ wanted))] if anew != wanted else []
    assert not wrong


def test_weights_are_in_the_recipes_of_what_they_make(tmp_path: Path) -> None:
    """A model by its content: the same weights elsewhere change nothing, other weights in the same place everything behind them."""
    folders = [tmp_path / name for name in ("here", "there")]
    for folder in folders:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"weights")
    configs = [load_config(None, ["describe.dino=dinov2", f"models.dinov2={folder}"]) for folder in folders]
    found = [recipes(config) for config in configs]
    assert found[0] == found[1]
    (folders[1] / "model.safetensors").write_bytes(b"others!")
    again = recipes(load_config(None, ["describe.dino=dinov2", f"models.dinov2={folders[1]}"]))
    assert {name for name in again if again[name] != found[1][name]} == dependants(configs[0], {"describe", "mirror"})


def test_where_it_runs_is_in_no_recipe_unless_the_numbers_are_others() -> None:
    config = load_config(None, [])
    assert recipes(config) == recipes(changed(config, "match.device", "cuda"))
    foundation = load_config(None, ["profile=foundation", "models.variant=tiny", "models.dtype=float32"])
    assert recipes(foundation) == recipes(changed(foundation, "models.device", "cuda"))
    automatic = changed(foundation, "models.dtype", "auto")
    # Half precision on a GPU, single on a CPU.
    assert recipes(automatic) != recipes(changed(automatic, "models.device", "cuda"))
    assert recipes(automatic) == recipes(foundation)


def test_names_of_classes_are_in_no_recipe() -> None:
    config = load_config(None, BASE)
    before = recipes(config)
    kinds = {kind for stage in stages_of(config) for kind in (type(stage), stage.record, *stage.actors())}
    names = {kind: kind.__name__ for kind in kinds}
    try:
        for kind in kinds:
            kind.__name__ = f"Renamed{kind.__name__}"
        assert recipes(config) == before
    finally:
        for kind, name in names.items():
            kind.__name__ = name


PHOTO = ImageRecord(
    "a", "a.jpg", "car", "val", np.array([1, 2, 30, 40], np.float32), "a.png", None, np.array([0, 1]), np.ones((2, 2), np.float32)
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jpg", "a.png"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def inputs(folder: Path, config: RunConfig, photo: ImageRecord, split: str = "val") -> dict[str, tuple[str, ...]]:
    """What the rows of each stage have to be made from: of two images, or of their pair."""
    here = {name: str(folder / getattr(photo, name)) for name in ("path", "mask_path") if getattr(photo, name) is not None}
    images = [photo.replace(**here), photo.replace(image_id="b", path=str(folder / "b.jpg"), mask_path=None)]
    run = RunFolder(folder / "run")
    run.write_records(ImageRecord, IMAGES, with_inputs(run, images, columns_read(config)))
    run.write_records(Pair, PAIRS, [Pair("a~b", "a", "b", "car", split)])
    config = dataclasses.replace(config, run=str(folder / "run"))
    return {stage.name: tuple(stage.inputs_of(pa.array(IDS[stage.key])).to_pylist()) for stage in stages_of(config)}


IDS = {"image_id": ["a", "b"], "pair_id": ["a~b"], "category": ["car"]}
# Class shapes are made of training images, and these are others: tests/pipelines/jobs/test_represent.py. Depths are those of the meshes.
ALL = {stage.name for stage in STAGES} - {"represent", "depth"}
ANNOTATED = {"evaluate", "judge", "sweep"}


@pytest.mark.parametrize(
    ("what", "overrides", "wanted"),
    [
        ("photo", [], ALL),
        ("mask", [], ALL),
        ("mask", ["reconstruct.mask=grabcut"], set()),
        ("no mask any more", [], ALL),
        ("box", [], ALL),
        ("box", ["reconstruct.mask=file", "reconstruct.mesh=inflate"], ALL),
        ("category", [], ALL),
        ("keypoints", [], ANNOTATED),
        ("split of the pair", [], ANNOTATED),
        ("place", [], set()),
        ("nothing", [], set()),
    ],
)
def test_an_input_makes_exactly_the_rows_that_are_made_of_it_anew(
    what: str, overrides: list[str], wanted: set[str], photos: Path
) -> None:
    config = load_config(None, [*BASE, *overrides])
    before = inputs(photos, config, PHOTO)
    photo, split = PHOTO, "val"
    if what == "photo":
        (photos / "a.jpg").write_bytes(b"another photo")
    elif what == "mask":
        (photos / "a.png").write_bytes(b"another mask")
    elif what == "no mask any more":
        photo = PHOTO.replace(mask_path=None)
    elif what == "box":
        photo = PHOTO.replace(bbox=np.array([1, 2, 31, 40], np.float32))
    elif what == "category":
        photo = PHOTO.replace(category="bus")
    elif what == "keypoints":
        photo = PHOTO.replace(keypoint_xy=np.zeros((2, 2), np.float32))
    elif what == "split of the pair":
        split = "test"
    elif what == "place":
        (photos / "moved").mkdir()
        (photos / "a.jpg").rename(photos / "moved/a.jpg")
        photo = PHOTO.replace(path="moved/a.jpg")
    after = inputs(photos, config, photo, split)
    assert {name for name in before if before[name] != after[name]} == wanted
    if wanted and what not in ("category", "box", "keypoints"):
        assert all(before[name][-1] == after[name][-1] for name in wanted if len(before[name]) == 2), "the other image is as it was"


def test_stages_are_cut_into_graphs_where_ids_change_or_whole_categories_are_needed() -> None:
    def names(*overrides: str) -> list[list[str]]:
        return [[kind.name for kind in graph] for graph in graphs_of(load_config(None, list(overrides)))]

    assert (
        names()
        == names("orient.estimator=joint_normals")
        == [["reconstruct", "render"], ["orient"], ["register", "describe"], ["match", "label"]]
    )
    assert names("match.transfer=nearest") == [["reconstruct", "render"], ["orient", "describe"], ["match", "label"]]
    paper = ["match.transfer=nearest", "orient.estimator=consensus"]
    assert names(*paper) == [["reconstruct"], ["orient", "describe"], ["match", "label"]]
    assert names("models.variant=none") == [["reconstruct", "render", "orient", "describe"], ["match", "label"]]
    foundation = [["reconstruct", "orient", "describe"], ["match", "label"]]
    assert names("profile=foundation", "models.variant=tiny") == foundation
    nearest = load_config(None, ["pairs.strategy=nearest"])
    assert [[kind.name for kind in graph] for graph in graphs_of(nearest, "match")] == [
        ["reconstruct", "render"],
        ["orient"],
        ["register", "describe", "embed"],
        ["match"],
    ]
    assert names("orient.estimator=none") == [["reconstruct", "orient"], ["register", "describe"], ["match", "label"]]
    assert names("orient.estimator=none", "match.transfer=nearest", "pairs.strategy=nearest")[0][-1] == "embed"
    assert [kind.name for kind in chain_to(RunConfig(), "describe")] == ["reconstruct", "render", "orient", "register", "describe"]
