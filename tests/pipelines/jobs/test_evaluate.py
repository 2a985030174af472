"""Evaluation by name: every method on toys, recipes of their own, what is missing said, tables as files, and what is not scored counted."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.light.dense import Lite0Dino
from pipelines.folder.manifest import IMAGES, read_images, read_pairs
from pipelines.jobs import evaluate
from pipelines.jobs.job import Job
from pipelines.report import page as report
from pipelines.report.metrics import CSV, LATEX, METRICS_FILE
from pipelines.stages.adapter import train_job
from pipelines.stages.describe import DescribeStage
from pipelines.stages.evaluate import EvaluateStage, ScoreActor, evaluate_stages
from pipelines.stages.judge import judged_pairs
from pipelines.stages.methods import ImageCells
from pipelines.stages.mirror import MirrorStage
from sc3d.config import RunConfig
from sc3d.config_file import load_config, to_values
from sc3d.console import PlainConsole
from sc3d.datasets.keypoint_groups import KeypointGroups
from sc3d.errors import ConfigError
from sc3d.evaluation.methods import CONTROL, METHODS
from sc3d.evaluation.readout import CellDescriptors
from sc3d.evaluation.scores import PairScore
from sc3d.grid import Letterbox
from sc3d.images import load_image
from sc3d.matching.template_prior import PosedTemplate
from sc3d.records import ImageRecord, Pair
from sc3d.report.terminal import print_metrics
from sc3d.store import RunFolder

# Of adapters with other settings than the run's there is none; they are asked for below. Class shapes take more images than it has.
TRAINED_OTHERWISE = {
    "adapter-uncapped",
    *(name for name, method in METHODS.items() if method.carried or name.startswith("labels-")),
}


def changed(config: RunConfig, *overrides: str) -> RunConfig:
    return load_config(None, overrides, to_values(config))


def copied(config: RunConfig, folder: Path) -> RunConfig:
    shutil.copytree(config.run, folder / "run")
    return changed(config, f"run={json.dumps(str(folder / 'run'))}")


def run_evaluate(config: RunConfig) -> dict[str, Any]:
    """Evaluate, and the metrics that it leaves."""
    return evaluate.run(config).read_json(METRICS_FILE)


def pck_at_ten(metrics: dict[str, Any]) -> dict[str, float]:
    return {r["method"]: r["value"] for r in metrics["pck"] if (r["subset"], r["alpha"], r["average"]) == ("all", 0.1, "image")}


@pytest.fixture(scope="module")
def by_name(finished: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, dict[str, Any]]:
    """Every method by its name, and a checkpoint under a name of its own, on a copy of the finished run."""
    config = copied(finished, tmp_path_factory.mktemp("methods"))
    checkpoint = Path(config.run) / train_job(finished).adapter_file
    names = [*(name for name in METHODS if name not in TRAINED_OTHERWISE), f"mine=adapter:{checkpoint}"]
    config = changed(config, f"evaluate.methods={json.dumps(names)}")
    return config, run_evaluate(config)


@pytest.mark.slow
def test_toys_run_every_method_and_say_what_stood_in(by_name: tuple[RunConfig, dict[str, Any]]) -> None:
    values = pck_at_ten(by_name[1])
    names = {method.rpartition(" nearest")[0] for method in values if method.endswith(" nearest")}
    assert names == {
        "zero-shot", "zero-shot-3d", "light-template", "template", "dino", "sd", "shape", "dinov2 (lite0)",
        "dinov2-registers (lite0)", "dinov3 (lite0)", "dift (lite0)",
        "stable-diffusion (lite0)", "sd-dino (lite0)", "sd-dinov3 (lite0)", "sd-dino-partfield (lite0, spectral)", "adapter",
        "adapter-dinov3 (lite0)", "mine", "copy-position",
    }  # fmt: skip
    assert {f"{name} window soft-argmax" for name in names} <= set(values)
    # A stand-in is the slot's own descriptor, and a checkpoint is the adapter that it was written from.
    assert values["dinov2 (lite0) nearest"] == values["dino nearest"] != values["sd nearest"]
    assert values["dift (lite0) nearest"] == values["sd nearest"]
    assert values["mine nearest"] == values["adapter nearest"]
    assert values["zero-shot-3d nearest"] == values["sd-dino-partfield (lite0, spectral) nearest"]
    # Nothing here has a template, so its methods fall back on what they say.
    assert values["light-template nearest"] == values["zero-shot nearest"]
    assert values["template nearest"] == values["copy-position nearest"]
    counts = {count["method"]: (count["without_prior"], count["pairs"] - count["rejected"]) for count in by_name[1]["counts"]}
    assert counts["light-template"][0] == counts["template"][0] == counts["template"][1] > 0 == counts["zero-shot"][0]


@pytest.mark.slow
def test_tables_are_written_for_spreadsheets_and_papers(by_name: tuple[RunConfig, dict[str, Any]]) -> None:
    config, metrics = by_name
    run = RunFolder(config.run)
    rows = list(csv.DictReader(io.StringIO(run.read_bytes(CSV).decode())))
    assert len(rows) == len(metrics["pck"])
    assert {row["origin"] for row in rows} == {"measured"}
    assert rows[0]["value"] == f"{metrics['pck'][0]['value']:.6f}"
    latex = run.read_bytes(LATEX).decode()
    assert latex.count("\\begin{tabular}") == latex.count("\\bottomrule") == 2
    assert "sd-dino (lite0) nearest &" in latex


@pytest.mark.slow
def test_a_method_more_costs_its_own_time_only(by_name: tuple[RunConfig, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    config, metrics = by_name
    computed = []
    run_stage = Job.run_stage

    def spy(job: Job, stage: Any, *arguments: Any) -> Any:
        summary = run_stage(job, stage, *arguments)
        computed.append((stage.name, summary.computed))
        return summary

    monkeypatch.setattr(Job, "run_stage", spy)
    more = changed(config, "evaluate.methods=[dino, again=dino, sd]")
    values = pck_at_ten(run_evaluate(more))
    pairs = len(read_pairs(RunFolder(config.run), labelled=False))
    assert computed == [("evaluate", 0), ("evaluate", pairs), ("evaluate", 0), ("judge", 0)]
    assert values["again nearest"] == values["dino nearest"] == pck_at_ten(metrics)["dino nearest"]


@pytest.mark.slow
def test_the_page_shows_bars_and_the_worst_pairs(by_name: tuple[RunConfig, dict[str, Any]]) -> None:
    config, _ = by_name
    page = Path(report.run(config)).read_text(encoding="utf-8")
    section = page.partition('<section id="evaluation">')[2].partition("</section>")[0]
    assert "could not be shown" not in section
    # Two test images a category: one pair of each, which stands for its reverse too.
    assert section.count('<article class="card keypoints">') == 2
    assert section.count('class="truth"') == section.count('<g class="keypoint ') > 4
    assert "of 2 categories" in section
    assert "Its worst pairs".lower() in section.lower()


def test_features_of_other_models_are_asked_for(finished: RunConfig) -> None:
    config = changed(finished, "models.variant=tiny", "describe.sd=stable_diffusion", "evaluate.methods=[dift]")
    with pytest.raises(
        ConfigError, match=r"method dift reads .*describe.sd = dift.*sc3d describe --run .*finished --set describe.sd=dift"
    ):
        evaluate.run(config)


def test_weights_that_are_not_here_do_not_hide_what_is_missing(finished: RunConfig, tmp_path: Path) -> None:
    config = changed(finished, "describe.sd=stable_diffusion", f"models.dift={tmp_path}/none", "evaluate.methods=[dift]")
    with pytest.raises(ConfigError, match=r"method dift .*none.*sc3d describe --run .*finished --set describe.sd=dift"):
        evaluate.run(config)


def test_an_adapter_that_was_not_trained_is_asked_for(finished: RunConfig) -> None:
    with pytest.raises(
        ConfigError, match=r"adapter-uncapped: no adapter.*sc3d label .* and then sc3d train .*--set train.labels_per_pair=3600"
    ):
        evaluate.run(changed(finished, "evaluate.methods=[adapter-uncapped]"))
    with pytest.raises(ConfigError, match=r"labels-2d: no adapter.*sc3d compare 2d --run .*finished"):
        evaluate.run(changed(finished, "evaluate.methods=[labels-2d]"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dinov4", "no method named 'dinov4'; there are zero-shot"),
        ("adapter:none.pth", "none.pth"),
        ("a\nb=dino", "cannot be the name"),
    ],
)
def test_unusable_methods_are_refused(finished: RunConfig, name: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        evaluate.run(changed(finished, f"evaluate.methods={json.dumps([name])}"))


def test_two_methods_of_one_name_are_refused(finished: RunConfig) -> None:
    with pytest.raises(ConfigError, match="two methods are called 'x'"):
        evaluate_stages(changed(finished, "evaluate.methods=[x=dino, x=sd]"))


def test_recipes_depend_on_what_a_method_reads_alone(finished: RunConfig) -> None:
    def recipe(method: str, *overrides: str) -> str:
        config = changed(finished, "models.variant=tiny", f"evaluate.methods=[{method}]", *overrides)
        return evaluate_stages(config)[0].recipe

    assert (
        recipe("dino")
        == recipe("dino", "match.alpha=0.1")
        == recipe("dino", "label.tau_geo=0.01")
        == recipe("dino", "evaluate.alphas=[0.2]")
    )
    assert recipe("zero-shot") != recipe("zero-shot", "match.alpha=0.1")
    changes = (
        "evaluate.window=5",
        "evaluate.masking=infinity",
        "evaluate.unit=image",
        "evaluate.flip=mask",
        "describe.dino=dinov2",
    )
    assert len({recipe("dino"), recipe("sd"), *(recipe("dino", change) for change in changes)}) == 2 + len(changes)
    assert recipe("adapter") == recipe("adapter", "evaluate.flip=mask")
    # A pose says itself which side it shows, and has a weight that the others do not know.
    for name in ("light-template", "template"):
        assert recipe(name) == recipe(name, "evaluate.flip=mask") != recipe(name, "evaluate.template_prior=1")
    assert recipe("zero-shot") == recipe("zero-shot", "evaluate.template_prior=1") != recipe("light-template")


@pytest.mark.parametrize(("flip", "right"), [("none", [False, False, True]), ("mutual", [True] * 3), ("mask", [True] * 3)])
def test_adaptive_flip_finds_points_in_a_mirror_image(tmp_path: Path, flip: str, right: list[bool]) -> None:
    """A target that is the source's mirror image: its left is the source's right, which only the mirrored source looks like."""
    config = load_config(None, [f"run={tmp_path}", f"evaluate.flip={flip}", "evaluate.methods=[dino]"])
    box = Letterbox(840, 840)
    rng = np.random.default_rng(0)
    descriptors = rng.normal(size=(32, 60, 60))
    # Models see a little of which way a thing is turned, so the photo as it is is less like the target.
    seen = (descriptors + 0.3 * rng.normal(size=descriptors.shape), np.ascontiguousarray(descriptors[:, :, ::-1]))
    source, mirrored = (ImageCells(CellDescriptors.of_map(one, box), np.ones((60, 60), bool)) for one in seen)
    xy = np.array([[105, 49], [301, 511], [707, 63]], np.float32)  # cell centres: left, right, and a point in the middle of both
    annotations = (
        ImageRecord("s", "s.png", "car", "test", keypoint_ids=np.arange(3), keypoint_xy=xy),
        ImageRecord(
            "t",
            "t.png",
            "car",
            "test",
            np.array([0, 0, 840, 840]),
            keypoint_ids=np.array([1, 0, 2]),
            keypoint_xy=[840, 0] + [-1, 1] * xy,
        ),
    )
    row = {
        "pair_id": "s~t", "category": "car", "split": "test", "source": source, "target": mirrored, "annotations": annotations,
        "mirrored": None if flip == "none" else mirrored, "groups": KeypointGroups((), ((0, 1),), ()),
        "method": "dino", "prior": "", "unit": "box",
    }  # fmt: skip
    score = ScoreActor(config).process(row)["record"]
    assert score.flipped == (flip != "none")
    for prediction in score.predictions():
        assert (prediction.distances < 0.01).tolist() == right
    # The source's other side is not visible: the point keeps the prediction of the source as it is.
    alone = annotations[0].replace(keypoint_ids=np.array([0, 2]), keypoint_xy=xy[[0, 2]])
    score = ScoreActor(config).process({**row, "annotations": (alone, annotations[1])})["record"]
    assert (score.predictions()[0].distances < 0.01).tolist() == [False, True]


@pytest.mark.parametrize("method", ["light-template", "template"])
def test_the_templates_prior_knows_nothing_of_annotations(tmp_path: Path, method: str) -> None:
    """Whatever box, keypoints and unit the target is annotated with, what is predicted of a point is the same: the box is the mask's."""
    config = load_config(None, [f"run={tmp_path}", f"evaluate.methods=[{method}]"])
    box = Letterbox(840, 840)
    rng = np.random.default_rng(0)
    cells = np.arange(3600)
    corners = np.repeat(cells[:, None], 3, axis=1).astype(np.int32)
    barycentric = np.full((3600, 3), 1 / 3, np.float32)
    shift = np.array([70.0, 28.0])
    template = PosedTemplate("a", box, 300.0, corners, barycentric, box.centres() + shift, cells)
    described = [CellDescriptors.of_map(rng.normal(size=(32, 60, 60)), box) for _ in range(2)]
    source, target = (ImageCells(one, np.ones((60, 60), bool), template) for one in described)
    xy = np.array([[105, 49], [301, 511], [707, 63]], np.float32)
    ids = np.arange(3)

    def predicted(bbox: list[float], target_xy: np.ndarray, image: ImageCells = target) -> PairScore:
        annotations = (
            ImageRecord("s", "s.png", "car", "test", keypoint_ids=ids, keypoint_xy=xy),
            ImageRecord("t", "t.png", "car", "test", np.array(bbox), keypoint_ids=ids, keypoint_xy=target_xy),
        )
        row = {
            "pair_id": "s~t", "category": "car", "split": "test", "source": source, "target": image, "annotations": annotations,
            "mirrored": None, "groups": KeypointGroups((), (), ()), "method": method, "prior": METHODS[method].prior, "unit": "box",
        }  # fmt: skip
        score: PairScore = ScoreActor(config).process(row)["record"]
        return score

    one, other = predicted([0, 0, 840, 840], xy), predicted([5, 9, 50, 20], rng.uniform(0, 840, xy.shape).astype(np.float32))
    np.testing.assert_array_equal(one.predicted_xy, other.predicted_xy)
    assert (one.distances != other.distances).all()
    assert not one.without_prior
    away = np.linalg.norm(one.predicted_xy - np.tile(xy + shift, (2, 1)), axis=1)
    # Random features, and a cosine falls by 1 over 95 pixels: they move a point, not far.
    assert away.max() < (1e-3 if method == "template" else 60)
    without = predicted([0, 0, 840, 840], xy, target._replace(template=None))
    assert without.without_prior
    plain = predicted([0, 0, 840, 840], xy, target._replace(template=dataclasses.replace(template, numbering="b")))
    np.testing.assert_array_equal(plain.predicted_xy, without.predicted_xy)
    assert np.linalg.norm(without.predicted_xy - one.predicted_xy, axis=1).max() > 60


def test_mirror_images_are_described_for_the_flip(finished: RunConfig, tmp_path: Path) -> None:
    config = changed(copied(finished, tmp_path), "evaluate.methods=[dino]", "evaluate.filter_pairs=0", "evaluate.flip=mask")
    metrics = run_evaluate(config)
    [stage] = evaluate_stages(config)
    mirrored, pairs = MirrorStage(stage.whole), read_pairs(stage.run, labelled=False)
    assert set(mirrored.catalogue().located) == {pair.source_id for pair in pairs}
    original, other = (one.read_features(pairs[0].source_id) for one in (DescribeStage(stage.whole), mirrored))
    np.testing.assert_array_equal(original.foreground, other.foreground[:, ::-1])
    assert set(other.sources) == set(original.sources)
    photo = load_image(stage.images[pairs[0].source_id].path)
    described = Lite0Dino(config).process({"image": np.ascontiguousarray(photo[:, ::-1])})
    # The network runs with as many threads as its process has, and sums in their order.
    np.testing.assert_allclose(other.sources["dino"], described["dino"], atol=2e-3)
    scores = [score for score in stage.catalogue().read_all() if score.split == "test"]
    assert metrics["counts"][0]["flipped"] == sum(score.flipped for score in scores)


def test_pairs_and_points_that_are_odd_are_counted(finished: RunConfig, tmp_path: Path) -> None:
    config = changed(copied(finished, tmp_path), "evaluate.methods=[odd=dino]", "evaluate.filter_pairs=0")
    run = RunFolder(config.run)
    test = [p for p in read_pairs(run, labelled=False) if p.split == "test"]
    silent, far = test[0].source_id, next(p.source_id for p in test if test[0].source_id not in (p.source_id, p.target_id))
    images = []
    for image in read_images(run):
        if image.image_id == silent:
            image = image.replace(keypoint_ids=np.array([999]), keypoint_xy=np.ones((1, 2)))
        elif image.image_id == far:
            assert image.keypoint_xy is not None
            moved = image.keypoint_xy.copy()
            moved[0, 0] = -50
            image = image.replace(keypoint_xy=moved)
        images.append(image)
    run.write_records(ImageRecord, IMAGES, images)
    metrics = run_evaluate(config)
    [count] = metrics["counts"]
    assert count["pairs"] == len(test)
    assert count["without_common"] == sum(silent in (p.source_id, p.target_id) for p in test) > 0
    assert count["outside"] > 0
    assert count["keypoints"] > count["outside"]
    console = PlainConsole(file=io.StringIO(), width=120)
    print_metrics(metrics, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"{count['without_common']:,} pairs show no keypoint in both images" in text
    assert f"{count['outside']:,} keypoints lie outside of their image" in text


def test_judged_pairs_are_capped_and_do_not_depend_on_the_order() -> None:
    pairs = [Pair(f"{c}{i}~{c}x", f"{c}{i}", f"{c}x", c, s) for c in "ab" for s in ("val", "test") for i in range(9)]
    pairs = [
        dataclasses.replace(p, pair_id=f"{p.split}{p.source_id}~{p.target_id}", source_id=f"{p.split}{p.source_id}") for p in pairs
    ]
    chosen = judged_pairs(pairs, 4)
    assert len(chosen) == 16
    assert {(p.category, p.split) for p in chosen} == {(c, s) for c in "ab" for s in ("val", "test")}
    assert {p.pair_id for p in judged_pairs(pairs[::-1], 4)} == {p.pair_id for p in chosen}
    assert judged_pairs(pairs, 0) == []
    assert len(judged_pairs(pairs, 100)) == len(pairs)


def test_the_default_is_a_control_the_features_and_the_adapter_if_there_is_one(finished: RunConfig) -> None:
    assert [stage.label for stage in evaluate_stages(finished)] == [CONTROL, "zero-shot", "adapter"]
    assert [stage.label for stage in evaluate_stages(changed(finished, "train.steps=5"))] == [CONTROL, "zero-shot"]
    assert EvaluateStage.name == "evaluate"
