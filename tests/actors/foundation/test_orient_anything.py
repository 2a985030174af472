"""OrientAnything: conventions of angles, pictures of meshes, version 1 with its checkpoints, and the votes of both versions' actors."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.integrate import trapezoid
from scipy.optimize import curve_fit
from torch import nn

from actors.base import run_actors
from actors.foundation.orient_anything import v1
from actors.foundation.orient_anything.actor import OrientAnythingV1Orient, OrientAnythingV2Orient, repository_of
from actors.foundation.orient_anything.angles import symmetry_of, yaw_of_azimuth
from actors.foundation.orient_anything.pictures import clay_pictures, framed_square
from actors.foundation.orient_anything.v1 import OrientAnythingNetwork, OrientAnythingV1, load_network, preprocess, random_model
from actors.foundation.orient_anything.v2 import OUTPUTS, SIDE, OrientAnythingV2
from actors.foundation.orient_anything.v2 import preprocess as preprocess_v2
from actors.offline.orient import ConsensusOrient
from sc3d.config import RunConfig
from sc3d.config_file import parse_config
from sc3d.errors import ConfigError, FeatureError, InputError, PreflightError, WeightsError
from sc3d.geometry.yaw import YAWS, render_yaw_views


def load_scene() -> Any:
    spec = importlib.util.spec_from_file_location("orient_scene", Path(__file__).parent / "orient_anything" / "scene.py")
    assert spec is not None
    assert spec.loader is not None
    scene = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scene)
    return scene


scene = load_scene()
masts, read_azimuth = scene.masts, scene.read_azimuth

TINY = {"models": {"variant": "tiny", "device": "cpu"}}
AZIMUTHS = np.arange(360)


def peaks(count: int, at: float, sharpness: float = 6.0) -> np.ndarray:
    """Logits over the azimuth with so many equal peaks."""
    return sharpness * (np.cos(np.deg2rad(count * (AZIMUTHS - at))) - 1)


def circular_gap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs((a - b + 180) % 360 - 180)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def reference_symmetry(distribution: np.ndarray) -> int:
    """The order in which upstream does it, one step after the other."""
    x = np.linspace(0, 2 * np.pi, 360)
    y = distribution / (trapezoid(distribution, x) + 1e-8)
    fits, kappas = [], []
    orders = (1, 2, 4)
    for k in orders:
        try:
            found, _ = curve_fit(lambda t, m, c, k=k: np.exp(c * np.cos(k * (t - m))) / (2 * np.pi), x, y, p0=[x[np.argmax(y)], 1])
            rest = y - np.exp(found[1] * np.cos(k * (x - found[0]))) / (2 * np.pi)
            fits.append(1 - np.sum(rest**2) / (np.sum((y - y.mean()) ** 2) + 1e-8))
            kappas.append(found[1])
        except RuntimeError:
            fits.append(0.0)
            kappas.append(0.0)
        if fits[-1] > 0.8:
            break
    best = int(np.argmax(fits))
    needed = {1: 0.6, 2: 0.5, 4: 0.25}[orders[best]]
    return orders[best] if fits[best] >= 0.45 and kappas[best] >= needed else 0


class TestAngles:
    @given(st.floats(-1e4, 1e4))
    def test_yaw_is_the_azimuth_the_other_way_round_the_circle(self, azimuth: float) -> None:
        yaw = float(yaw_of_azimuth(np.array(azimuth)))
        assert 0 <= yaw < 360
        assert circular_gap(np.array(yaw), np.array(-azimuth)) < 1e-6

    @pytest.mark.parametrize(("azimuth", "yaw"), [(0, 0), (90, 270), (180, 180), (359, 1), (-1e-14, 0)])
    def test_quarters(self, azimuth: float, yaw: float) -> None:
        assert yaw_of_azimuth(np.array(azimuth)) == pytest.approx(yaw)

    @pytest.mark.parametrize("count", [1, 2, 4])
    @pytest.mark.parametrize("at", [0, 77, 359])
    def test_equal_peaks_are_counted(self, count: int, at: int) -> None:
        assert symmetry_of(sigmoid(peaks(count, at))) == count

    def test_what_has_no_peak_has_no_front(self) -> None:
        assert symmetry_of(np.ones(360)) == 0
        assert symmetry_of(np.zeros(360)) == 0
        assert symmetry_of(np.random.default_rng(0).random(360)) == 0
        assert symmetry_of(np.full(360, np.nan)) == 0
        # Three peaks are no symmetry of quarter turns.
        assert symmetry_of(sigmoid(peaks(3, 20))) == 0

    @settings(max_examples=60, deadline=None)
    @given(st.sampled_from([1, 2, 3, 4]), st.floats(0, 360), st.floats(0.05, 12), st.floats(0, 4), st.integers(0, 2**31))
    def test_it_counts_as_upstream_does(self, count: int, at: float, sharpness: float, noise: float, seed: int) -> None:
        logits = peaks(count, at, sharpness) + noise * np.random.default_rng(seed).standard_normal(360)
        distribution = sigmoid(logits)
        assert symmetry_of(distribution) == reference_symmetry(distribution)


class TestPictures:
    def test_a_view_becomes_a_shaded_object(self) -> None:
        views = render_yaw_views(masts(), YAWS, 160)
        pictures, covered = clay_pictures(views)
        assert pictures.shape == (8, 160, 160, 3)
        assert pictures.dtype == np.uint8
        assert np.array_equal(covered, views > 0)
        assert (pictures[~covered] == 0).all()
        assert pictures[covered].min() >= 70
        assert np.ptp(pictures[covered]) > 40

    def test_light_comes_from_above_and_the_left(self) -> None:
        y, x = np.mgrid[-1.2:1.2:121j, -1.2:1.2:121j]
        inside = x**2 + y**2 < 1
        # A sphere as wide as the view: nearness rises by half its radius.
        ball = np.where(inside, 0.3 + np.sqrt(np.clip(1 - x**2 - y**2, 0, 1)) / 2.4, 0)
        (picture,), _ = clay_pictures(ball[None])
        shade = picture[..., 0].astype(float)
        assert shade[35, 60] > shade[85, 60] + 30
        assert shade[60, 35] > shade[60, 85] + 30

    def test_a_step_to_a_farther_surface_casts_no_shade(self) -> None:
        view = np.zeros((40, 40), np.float32)
        view[5:35, 5:20], view[5:35, 20:35] = 0.8, 0.3
        (picture,), (covered,) = clay_pictures(view[None])
        assert np.ptp(picture[covered]) == 0

    def test_the_object_is_centred_with_upstreams_margin(self) -> None:
        picture = np.full((50, 70, 3), 90, np.uint8)
        mask = np.zeros((50, 70), bool)
        mask[5:15, 30:64] = True
        square = np.asarray(framed_square(picture, mask, 255))
        assert square.shape == (40, 40, 3)  # int(34 / 0.85)
        inside = square[..., 0] == 90
        assert np.array_equal(np.flatnonzero(inside.any(1)), np.arange(15, 25))
        assert np.array_equal(np.flatnonzero(inside.any(0)), np.arange(3, 37))
        assert (square[~inside] == 255).all()

    def test_nothing_to_frame_is_an_error(self) -> None:
        with pytest.raises(InputError, match="empty"):
            framed_square(np.zeros((5, 5, 3), np.uint8), np.zeros((5, 5), bool), 0)
        with pytest.raises(InputError, match="uint8"):
            framed_square(np.zeros((5, 5, 3), np.uint8), np.zeros((4, 5), bool), 0)

    def test_version_1_preprocesses_as_the_librarys_processor(self) -> None:
        from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

        square = Image.fromarray(np.random.default_rng(0).integers(0, 256, (301, 301, 3), np.uint8))
        # The published preprocessor_config.json of DINOv2.
        processor = BitImageProcessorPil(
            size={"shortest_edge": 256},
            crop_size={"height": 224, "width": 224},
            resample=3,
            image_mean=[0.485, 0.456, 0.406],
            image_std=[0.229, 0.224, 0.225],
        )
        expected = processor(images=square, return_tensors="np")["pixel_values"][0]
        np.testing.assert_allclose(preprocess(square).numpy(), expected, atol=2e-6)

    def test_version_2_puts_the_object_on_white(self) -> None:
        mask = np.zeros((100, 100), bool)
        mask[20:80, 30:70] = True
        picture = preprocess_v2(np.zeros((100, 100, 3), np.uint8), mask)
        assert picture.shape == (SIDE, SIDE, 3)
        assert (picture[0] == 255).all()
        assert (picture[SIDE // 2, SIDE // 2] == 0).all()
        # 60 of int(60 / 0.85) rows.
        assert (picture[:, SIDE // 2, 0] < 128).sum() == pytest.approx(SIDE * 60 / 70, abs=2)


class ReadsV1(nn.Module):
    """In the place of version 1's network: reads the azimuth off normalised pictures with a black background."""

    def __init__(self, outputs: int = 902, unsure: bool = False) -> None:
        super().__init__()
        self.dinov2 = nn.Identity()
        self.outputs, self.unsure = outputs, unsure

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        assert pixels.shape[1:] == (3, 224, 224)
        logits = torch.zeros(len(pixels), self.outputs)
        for i, one in enumerate(pixels):
            black = one.min()
            assert black == pytest.approx(-0.485 / 0.229, abs=1e-3)
            logits[i, round(read_azimuth((one[0] > black + 0.4).numpy())) % 360] = 5.0
        logits[:, -2 + self.unsure] = 3.0
        return logits


def reads_v2(count: int = 1) -> Any:
    """In the place of version 2's network: reads the azimuth off pictures with a white background."""

    def network(pictures: np.ndarray) -> np.ndarray:
        assert pictures.shape[1:] == (SIDE, SIDE, 3)
        logits = np.zeros((len(pictures), OUTPUTS), np.float32)
        for row, picture in zip(logits, pictures, strict=True):
            row[:360] = peaks(count, round(read_azimuth(picture[..., 0] < 230)))
        return logits

    return network


class TestTruth:
    @pytest.mark.parametrize("estimator", [OrientAnythingV1(ReadsV1()), OrientAnythingV2(reads_v2())], ids=["v1", "v2"])
    def test_a_known_mesh_shows_the_yaw_that_it_was_rendered_at(self, estimator: Any) -> None:
        found = estimator.estimate(render_yaw_views(masts(), YAWS, 448))
        assert circular_gap(found.yaw_degrees, np.array(YAWS)).max() < 15
        assert (found.symmetry == 1).all()

    @pytest.mark.parametrize("turn", [0, 90, 180, 270])
    @pytest.mark.parametrize("actor", [OrientAnythingV1Orient, OrientAnythingV2Orient])
    def test_a_turned_mesh_is_turned_back(self, actor: Any, turn: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(actor, "__init__", lambda self, config: setattr(self, "config", config))
        one = actor(RunConfig())
        one.estimator = OrientAnythingV1(ReadsV1()) if actor is OrientAnythingV1Orient else OrientAnythingV2(reads_v2())
        mesh = masts(turn)
        rows = [{"id": "a", "vertices": mesh.vertices, "faces": mesh.faces}]
        (out,) = run_actors([one], rows, "id", "orient")
        assert out.row["turn"] == -turn % 360
        assert (out.row["votes"] == -turn % 360).all()
        assert not out.row["uncertain"]

    def test_the_number_of_fronts_feeds_the_vote(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(OrientAnythingV2Orient, "__init__", lambda self, config: setattr(self, "config", config))
        actor = OrientAnythingV2Orient(RunConfig())
        mesh = masts(180)
        row = {"vertices": mesh.vertices, "faces": mesh.faces}
        actor.estimator = OrientAnythingV2(reads_v2(2))
        half = actor.process(row)
        assert (half["turn"], half["symmetric"], half["uncertain"]) == (0, True, False)
        actor.estimator = OrientAnythingV2(lambda p: np.zeros((len(p), OUTPUTS), np.float32))
        none = actor.process(row)
        assert (none["turn"], none["uncertain"]) == (0, True)
        assert (none["votes"] == -1).all()

    def test_an_unsure_version_1_abstains(self) -> None:
        found = OrientAnythingV1(ReadsV1(unsure=True)).estimate(render_yaw_views(masts(), YAWS, 224))
        assert (found.symmetry == 0).all()

    def test_both_sizes_of_version_1_end_with_the_confidence(self) -> None:
        found = OrientAnythingV1(ReadsV1(outputs=722)).estimate(render_yaw_views(masts(), YAWS[:2], 224))
        assert (found.symmetry == 1).all()

    def test_bad_answers_are_errors(self) -> None:
        views = render_yaw_views(masts(), YAWS[:2], 96)
        with pytest.raises(FeatureError, match="900"):
            OrientAnythingV2(lambda p: np.zeros((len(p), 902), np.float32)).estimate(views)
        with pytest.raises(FeatureError, match="finite"):
            OrientAnythingV2(lambda p: np.full((len(p), OUTPUTS), np.nan, np.float32)).estimate(views)
        network = random_model()
        network.down_sampler.net2[0].weight[0] = torch.nan  # type: ignore[union-attr, index, operator]
        with pytest.raises(FeatureError, match=r"models\.dtype=float32"):
            OrientAnythingV1(network).estimate(views)


def checkpoint(path: Path, network: nn.Module, **changes: Any) -> Path:
    """A checkpoint as it was published: under the names of transformers 4.38."""
    state = {}
    for name, value in network.state_dict().items():
        for part in "qkv":
            full = {"q": "query", "k": "key", "v": "value"}[part]
            name = name.replace(f".attention.{part}_proj.", f".attention.attention.{full}.")
        state[name.replace(".attention.o_proj.", ".attention.output.dense.")] = value.clone()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**state, **changes}, path)
    return path


class TestVersion1:
    def test_the_output_is_that_of_its_parts(self) -> None:
        network = random_model()
        pixels = torch.randn(2, 3, 224, 224)
        with torch.inference_mode():
            token = network.dinov2(pixel_values=pixels).last_hidden_state[:, 0]  # type: ignore[operator]
            head = network.down_sampler
            hidden = nn.functional.relu(head.net1[1](head.net1[0](token)))  # type: ignore[union-attr, index, operator]
            expected = head.net2[1](head.net2[0](hidden))  # type: ignore[union-attr, index, operator]
            assert torch.equal(network(pixels), expected)
        assert expected.shape == (2, 902)

    @pytest.mark.parametrize(("width", "depth", "outputs"), [(32, 2, 902), (128, 1, 722)])
    def test_a_checkpoint_with_the_old_names_gives_its_network(self, tmp_path: Path, width: int, depth: int, outputs: int) -> None:
        torch.manual_seed(1)
        saved = OrientAnythingNetwork(width, depth, outputs, pretrained_side=56).eval()
        saved.down_sampler.net1[1].running_mean.normal_()
        names = torch.load(checkpoint(tmp_path / "dino_weight.pt", saved), weights_only=True)
        assert "dinov2.encoder.layer.0.attention.attention.query.weight" in names
        loaded = load_network(tmp_path / "dino_weight.pt")
        pixels = torch.randn(2, 3, 224, 224)
        with torch.inference_mode():
            assert torch.equal(loaded(pixels), saved(pixels))
        assert loaded.dinov2.config.num_attention_heads == max(1, width // 64)

    def test_the_full_size_is_upstreams(self) -> None:
        with torch.device("meta"):
            network = OrientAnythingNetwork()
        backbone, head = (sum(p.numel() for p in part.parameters()) for part in (network.dinov2, network.down_sampler))
        # dinov2-large has 304.4 M parameters, 1,024 of them a mask token; the head: two layers and two norms.
        assert backbone == 304_368_640
        assert head == 1024 * 902 + 902 + 902 * 902 + 902 + 4 * 902

    def test_the_actor_loads_the_published_file_of_a_folder(self, tmp_path: Path) -> None:
        checkpoint(tmp_path / v1.FILE, OrientAnythingNetwork(32, 1, 722, pretrained_side=56))
        config = parse_config({"models": {"orient_anything_v1": str(tmp_path), "device": "cpu", "cache": str(tmp_path / "c")}})
        assert OrientAnythingV1Orient(config).estimator.network.down_sampler.net2[1].num_features == 722  # type: ignore[attr-defined]
        assert OrientAnythingV1Orient.made_of(config)["weights"]["models.orient_anything_v1"].startswith("sha256:")

    def test_foreign_checkpoints_are_refused(self, tmp_path: Path) -> None:
        network = OrientAnythingNetwork(32, 1, 602, pretrained_side=56)
        with pytest.raises(WeightsError, match="602 outputs"):
            load_network(checkpoint(tmp_path / "a.pt", network))
        torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "b.pt")
        with pytest.raises(WeightsError, match=r"models\.orient_anything_v1"):
            load_network(tmp_path / "b.pt")
        network = OrientAnythingNetwork(32, 1, 902, pretrained_side=56)
        with pytest.raises(WeightsError, match=r"1 unknown: extra"):
            load_network(checkpoint(tmp_path / "c.pt", network, extra=torch.zeros(1)))
        with pytest.raises(WeightsError, match="no weights at"):
            load_network(tmp_path / "nowhere.pt")
        (tmp_path / "d.pt").write_bytes((tmp_path / "c.pt").read_bytes()[:3000])
        with pytest.raises(WeightsError, match="fetch it again"):
            load_network(tmp_path / "d.pt")

    def test_half_precision_leaves_the_head_alone(self) -> None:
        estimator = OrientAnythingV1(random_model(), dtype=torch.bfloat16)
        assert estimator.network.dinov2.dtype == torch.bfloat16
        assert estimator.network.down_sampler.net1[0].weight.dtype == torch.float32
        assert np.isfinite(estimator.estimate(render_yaw_views(masts(), YAWS[:2], 96)).yaw_degrees).all()

    def test_without_the_library_the_error_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(PreflightError, match=r"sc3d\[foundation\]"):
            OrientAnythingV1Orient(parse_config(TINY))


class TestActors:
    @pytest.mark.parametrize("actor", [OrientAnythingV1Orient, OrientAnythingV2Orient])
    def test_they_have_the_contract_of_the_offline_actor_without_references(self, actor: Any) -> None:
        assert set(actor.requires) == {"vertices", "faces"}
        assert actor.provides == ConsensusOrient.provides
        assert actor.resources.num_gpus < 1

    def test_the_tiny_version_1_needs_no_files_and_is_always_the_same(self) -> None:
        config = parse_config(TINY)
        rows = [{"id": str(turn), "vertices": masts(turn).vertices, "faces": masts().faces} for turn in (0, 90, 180)]
        first, second = ([o.row for o in run_actors([OrientAnythingV1Orient(config)], rows, "id", "orient")] for _ in range(2))
        for a, b in zip(first, second, strict=True):
            assert a["votes"].shape == (8,)
            assert np.array_equal(a["votes"], b["votes"])
        assert "tiny" in OrientAnythingV1Orient.made_of(config)["weights"]["models.orient_anything_v1"]

    def test_a_broken_mesh_is_a_reject_and_its_batch_is_not(self) -> None:
        good = {"vertices": masts().vertices, "faces": masts().faces}
        rows = [
            {"id": "a", **good},
            {"id": "b", "vertices": np.zeros((4, 3)), "faces": np.array([[0, 1, 2]] * 4)},
            {"id": "c", **good},
        ]
        outcomes = run_actors([OrientAnythingV1Orient(parse_config(TINY))], rows, "id", "orient")
        assert [o.reject is None for o in outcomes] == [True, False, True]
        assert outcomes[1].reject is not None
        assert outcomes[1].reject.error_type == "GeometryError"

    @pytest.mark.parametrize("actor", [OrientAnythingV1Orient, OrientAnythingV2Orient])
    def test_the_recipe_follows_the_options(self, actor: Any) -> None:
        base = actor.made_of(parse_config(TINY))
        for change in ({"orient": {"views": 4}}, {"orient": {"min_votes": 3}}, {"models": {**TINY["models"], "dtype": "bfloat16"}}):
            assert actor.made_of(parse_config({**TINY, **change})) != base

    def test_version_2_says_that_it_needs_upstreams_repository(self) -> None:
        with pytest.raises(ConfigError, match=r"models\.orient_anything_v2_repository"):
            repository_of(RunConfig().models)
        with pytest.raises(ConfigError, match="clone https"):
            OrientAnythingV2Orient(parse_config({"models": {"device": "cpu"}}))
