"""Training on a run folder: its validation pairs, its checks before the first step, s3, workers' progress, and the exported adapter."""

import importlib.util
import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from commit_rows import commit_rows

from pipelines.folder.configuration import record_configuration, stored_values
from pipelines.jobs import export_adapter, train
from pipelines.runner.progress import Progress
from pipelines.stages.adapter import check_labels, feature_reader, train_job, training_data
from pipelines.stages.describe import DescribeStage
from pipelines.stages.label import LabelStage
from sc3d.config import RunConfig
from sc3d.config_file import load_config
from sc3d.console import PlainConsole
from sc3d.errors import ConfigError, FeatureError, InputError, PreflightError, StoreError
from sc3d.features import encode_features
from sc3d.records import FeatureIndex, ImageRecord, Pair
from sc3d.store import RunFolder
from training.adapter import Adapter, adapter_metadata, load_adapter, save_adapter
from training.checkpoint import finished_result
from training.loop import DivergenceError
from training.validation import Validation

IMAGES = 6


def _load_toys() -> ModuleType:
    path = Path(__file__).parents[2] / "training" / "pairs.py"
    spec = importlib.util.spec_from_file_location("toy_training_pairs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOYS = _load_toys()


def _config(run: str | Path, cache: Path, *overrides: str) -> RunConfig:
    options = {"steps": 6, "pairs_per_step": 2, "labels_per_pair": 10, "channels": 8, "validate_every": 3, "dropout": 0.0}
    values = {"run": str(run), "train": {**options, "cache": str(cache)}}
    return load_config(None, overrides, values)


def _fill(config: RunConfig, annotated: bool = True) -> dict[str, Any]:
    """A run folder as the label stage leaves it: four images of car and chair to train on, and img4, img5 of the val split."""
    run, features = RunFolder(config.run), TOYS.make_features(IMAGES)
    category = {f"img{i}": "chair" if i in (2, 3) else "car" for i in range(IMAGES)}
    rows = [r.replace(category=category[r.source_id]) for r in TOYS.make_labels(features)]
    rows = [r for r in rows if category[r.source_id] == category[r.target_id]]
    trained = [r for r in rows if not {"img4", "img5"} & {r.source_id, r.target_id}]
    keypoints = rows[-1]
    points = {"img4": keypoints.target_xy, "img5": keypoints.source_xy}
    assert (keypoints.source_id, keypoints.target_id) == ("img5", "img4")
    images = []
    for name, value in features.items():
        known = {"keypoint_ids": np.arange(64), "keypoint_xy": points[name]} if annotated and name in points else {}
        split = "val" if name in points else "trn"
        images.append(ImageRecord(name, "", category[name], split, bbox=np.array([0, 0, 80, 80], np.float32), **known))
        run.write_bytes(DescribeStage(config).feature_file(name), encode_features(value))
    pairs = [Pair.of(*(next(i for i in images if i.image_id == n) for n in (r.source_id, r.target_id))) for r in trained]
    pairs += [Pair.of(images[5], images[4])] if annotated else []
    run.write_records(ImageRecord, "images.parquet", images)
    run.write_records(Pair, "pairs.parquet", pairs)
    record_configuration(run, config)
    index = [FeatureIndex(n, category[n], 64, 64, 0, 1, float(i)) for i, n in enumerate(features)]
    commit_rows(DescribeStage(config), "car", index)
    for name in ("car", "chair"):
        mine = [r for r in trained if r.category == name]
        commit_rows(LabelStage(config), name, mine)
    return {"rows": trained, "features": features}


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    made = _config(tmp_path / "run", tmp_path / "cache")
    _fill(made)
    return made


def _changed(config: RunConfig, *overrides: str) -> RunConfig:
    return _config(config.run, Path(str(config.train.cache)), *overrides)


def test_training_leaves_the_latest_and_both_bests_and_a_second_call_does_nothing(config: RunConfig) -> None:
    run = train.run(config)
    job = train_job(config)
    history = finished_result(run.read_bytes(job.checkpoint_file))
    assert [r.step for r in history.validation] == [3, 6]
    for name in (job.adapter_file, job.best_file("pck"), job.best_file("loss")):
        assert adapter_metadata(run.read_bytes(name))["recipe"] == DescribeStage(config).recipe
    before = run.read_bytes(job.checkpoint_file)
    train.run(config)
    assert run.read_bytes(job.checkpoint_file) == before
    assert train_job(_changed(config, "train.workers=2", "train.trackers=[]")).folder == job.folder
    assert train_job(_changed(config, "train.window=3")).folder != job.folder


def test_annotated_pairs_of_the_val_split_validate_else_labelled_ones_that_are_held_out(config: RunConfig, tmp_path: Path) -> None:
    data = training_data(config)
    assert len(data.pairs) == 4
    assert isinstance(data.validation, Validation)
    assert len(data.validation) == 1
    without = _config(tmp_path / "plain", tmp_path / "cache", "train.validation_share=0.5")
    _fill(without, annotated=False)
    data = training_data(without)
    assert len(data.pairs) == 2
    assert data.validation is not None
    assert len(data.validation) == 2
    never = training_data(_changed(without, "train.validate_every=0", "train.validation_share=0.5"))
    assert never.validation is None
    assert len(never.pairs) == 4


def test_features_on_s3_come_through_the_nodes_cache_once(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = _config(f"{bucket}/run", tmp_path / "cache", "ray.cache_mb=0")
    _fill(config)
    fetched: list[str] = []
    read = DescribeStage.read_features

    def counting(self: DescribeStage, image_id: str) -> Any:
        fetched.append(image_id)
        return read(self, image_id)

    monkeypatch.setattr(DescribeStage, "read_features", counting)
    run = train.run(config)
    assert sorted(fetched) == sorted(set(fetched)), "an image was fetched twice"
    local = _config(tmp_path / "run", tmp_path / "cache")
    _fill(local)
    expected = train.run(local)
    job, same = train_job(config), train_job(local)
    assert run.read_bytes(job.adapter_file) == expected.read_bytes(same.adapter_file)
    # Features that were made again in the same place are other features.
    commit_rows(DescribeStage(config), "car", [FeatureIndex(f"img{i}", "car", 1, 1, 0, 2, 9.0) for i in range(IMAGES)])
    fetched.clear()
    feature_reader(config)("img0")
    assert fetched == ["img0"]


def test_labels_of_other_features_are_told_from_none(config: RunConfig, tmp_path: Path) -> None:
    other = _changed(config, "describe.ball_radius=0.45")
    with pytest.raises(InputError, match=f"there are {LabelStage(config).recipe}") as caught:
        train.run(other)
    assert "train.labels" in str(caught.value)
    with pytest.raises(InputError, match=r"holds no run, .* run sc3d label first"):
        train.run(_config(tmp_path / "empty", tmp_path / "cache"))
    with pytest.raises(FeatureError, match=r"4 of 4 labelled images.*img0.*no features of the recipe"):
        train.run(_changed(config, "describe.ball_radius=0.45", f"train.labels={LabelStage(config).recipe}"))
    with pytest.raises(InputError, match=f"no labels of the recipe abc123; there are {LabelStage(config).recipe}"):
        train.run(_changed(config, "train.labels=abc123"))


def test_labels_that_are_named_are_trained_on(config: RunConfig) -> None:
    recipe = LabelStage(config).recipe
    named = _changed(config, f"train.labels={recipe}", "label.tau_geo=0.01")
    assert train_job(named).folder == train_job(config).folder
    assert len(training_data(named).pairs) == 4


def test_an_empty_label_set_and_a_category_without_labels_are_named(tmp_path: Path) -> None:
    config = _config(tmp_path / "run", tmp_path / "cache")
    filled = _fill(config)
    none = [r.replace(**{n: getattr(r, n)[:0] for n in _LISTS}) for r in filled["rows"]]
    commit_rows(LabelStage(config), "chair", [r for r in none if r.category == "chair"])
    with pytest.raises(InputError, match=r"categories chair has a label.*dataset\.categories=\[car\]"):
        train.run(config)
    train.run(_changed(config, "dataset.categories=[car]"))
    commit_rows(LabelStage(config), "car", [r for r in none if r.category == "car"])
    with pytest.raises(InputError, match="nothing to train on"):
        train.run(config)
    with pytest.raises(InputError, match="for the categories bus"):
        train.run(_changed(config, "dataset.categories=[bus]"))


_LISTS = ("source_xy", "target_xy", "cosine", "cycle_error", "geodesic_error")


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    config = _config(tmp_path / "run", tmp_path / "cache", "seed=1")
    rows = _fill(config)["rows"]
    cars = [r.replace(target_xy=np.full_like(r.target_xy, 1e38)) if r.pair_id == "img1~img0" else r for r in rows]
    cars = [r for r in cars if r.category == "car"]
    commit_rows(LabelStage(config), "car", cars)
    with pytest.raises(DivergenceError, match="img1~img0"):
        train.run(config)
    job = train_job(config)
    assert job.run.exists(job.checkpoint_file)
    assert not job.run.exists(job.adapter_file)
    assert all(np.isfinite(r.loss) for r in finished_result(job.run.read_bytes(job.checkpoint_file)).history)


def test_a_checkpoint_of_other_dimensions_is_refused(config: RunConfig, tmp_path: Path) -> None:
    save_adapter(Adapter([768], 8), tmp_path / "other.safetensors")
    save_adapter(Adapter([4, 12], 8), tmp_path / "fits.safetensors")
    with pytest.raises(FeatureError, match=r"train\.initial.*\[768\].*\[4, 12\]"):
        train.run(_changed(config, f"train.initial={tmp_path / 'other.safetensors'}"))
    fits = _changed(config, f"train.initial={tmp_path / 'fits.safetensors'}")
    train.run(fits)
    assert train_job(fits).folder != train_job(config).folder


def test_a_tracker_that_is_not_installed_stops_before_anything(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(PreflightError, match="mlflow"):
        train.run(_changed(config, "train.trackers=[mlflow]"))
    assert not RunFolder(config.run).names("adapters")
    # The next command does not take over what was refused.
    assert stored_values(config.run)["train"]["trackers"] == list(config.train.trackers)


def test_a_cache_that_cannot_be_written_is_a_typed_error(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"train\.cache"):
        train.run(_config(config.run, tmp_path / "file"))


@pytest.mark.slow
def test_workers_train_on_s3_and_show_their_steps(
    bucket: str, tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(f"{bucket}/run", tmp_path / "cache", "train.workers=2")
    _fill(config)
    out = io.StringIO()
    monkeypatch.setattr("pipelines.jobs.job.Progress", lambda: Progress(PlainConsole(file=out, width=200)))
    run = train.run(config)
    assert "6 in" in out.getvalue()
    job = train_job(config)
    alone = _config(tmp_path / "run", tmp_path / "cache")
    _fill(alone)
    train.run(alone)
    same = train_job(alone)
    histories = [finished_result(j.run.read_bytes(j.checkpoint_file)).history for j in (job, same)]
    np.testing.assert_allclose(np.array(histories[0]), np.array(histories[1]), rtol=1e-4, atol=1e-4)
    names = [name.removeprefix(f"{job.folder}/").partition("/")[0] for name in run.names(job.folder)]
    assert sorted(set(names)) == [
        "adapter.safetensors",
        "best_loss.safetensors",
        "best_pck.safetensors",
        "checkpoint.pt",
        "tensorboard",
    ]


def test_an_adapter_leaves_the_run(config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sc3d train first"):
        export_adapter.run(config, tmp_path / "out")
    run = train.run(config)
    job = train_job(config)
    for which, name in (("latest", job.adapter_file), ("best-pck", job.best_file("pck"))):
        export_adapter.run(config, tmp_path / which, which)
        exported, kept = load_adapter(tmp_path / which / "adapter.safetensors"), load_adapter(run.path(name))
        assert all((exported.state_dict()[k] == v).all() for k, v in kept.state_dict().items())
    export_adapter.run(config, tmp_path / "again", str(tmp_path / "latest" / "adapter.safetensors"))
    metadata = [adapter_metadata((tmp_path / n / "adapter.safetensors").read_bytes()) for n in ("latest", "again")]
    assert metadata[0] == metadata[1]
    assert json.dumps(metadata[0]["sources"]) == '["sd.s3", "dino"]'
    with pytest.raises(ConfigError, match="best-pck"):
        export_adapter.run(config, tmp_path / "out", "worst")


def test_the_command_trains_and_says_where_the_adapter_is(config: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    from pipelines.cli import main

    options = ["train.steps=2", "train.channels=8", "train.dropout=0", f"train.cache={config.train.cache}"]
    arguments = ["train", "--run", config.run, "--preset", "diy-sc", *(part for o in options for part in ("--set", o))]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    path = capsys.readouterr().out.strip().removeprefix("adapter: ")
    assert load_adapter(path).channels == 8
    with pytest.raises(SystemExit) as ended:
        main(["train", "--run", config.run, "--preset", "none"])
    assert ended.value.code == 2


def test_what_is_ahead_and_why_is_said_before_the_first_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = _config(tmp_path / "run", tmp_path / "cache")
    pairs = len(_fill(config)["rows"])
    train.run(config)
    said = " ".join(capsys.readouterr().err.split())
    assert f"train: 6 steps of 2 pairs (as train.steps says), so each of {pairs} pairs with labels about" in said
    assert said.index("steps of 2 pairs") < said.index("6 in ")
    train.run(config)
    assert "steps of" not in capsys.readouterr().err, "it is all there already"


def test_the_default_number_of_steps_is_told_as_the_papers(tmp_path: Path) -> None:
    config = _config(tmp_path / "run", tmp_path / "cache", "train.steps=200000", "train.pairs_per_step=1")
    _fill(config)
    said = train._what_is_ahead(config.train, check_labels(config), 50)
    assert "200,000 steps of 1 pair (the paper's number, made for a GPU; fewer: --set train.steps=300" in said
    assert "50 of them are done" in said
