"""DINO: which tokens are taken, how images and positions get in, and that weights are loaded whole or not at all."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BitImageProcessorPil

from actors.base import check_actors
from actors.foundation.dino import Dino, DinoV2RegistersSource, DinoV2Source, DinoV3Source, hub_positions, random_model
from sc3d.config import ModelsConfig, RunConfig
from sc3d.errors import FeatureError, WeightsError
from sc3d.images import letterbox

KINDS = ("dinov2", "dinov2_registers", "dinov3")
SOURCES = (DinoV2Source, DinoV2RegistersSource, DinoV3Source)
SIDE = 6


@pytest.fixture(scope="module")
def models():
    return {kind: random_model(kind) for kind in KINDS}


@pytest.fixture(scope="module")
def photos():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size, dtype=np.uint8) for size in ((50, 90, 3), (90, 50, 3), (64, 64, 3))]


TINY = RunConfig(models=ModelsConfig(variant="tiny", device="cpu"))


def reference(model, frame, registers):
    """The output of the last block as a hook sees it, and what transformers itself reports, on one letterboxed frame."""
    mean, deviation = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    pixels = torch.from_numpy(((frame / 255 - mean) / deviation).transpose(2, 0, 1)).float()[None]
    blocks = model.encoder.layer if hasattr(model, "encoder") else model.model.layer
    seen = []
    handle = blocks[-1].register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.inference_mode():
        output = model(pixel_values=pixels, output_hidden_states=True)
    handle.remove()
    side = int((seen[0].shape[1] - 1 - registers) ** 0.5)
    grid = seen[0][0, 1 + registers :].reshape(side, side, -1).permute(2, 0, 1)
    return grid, seen[0], output


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_the_last_block_s_before_the_final_norm(models, photos, kind):
    model = copy.deepcopy(models[kind])
    norm = model.layernorm if hasattr(model, "layernorm") else model.norm
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, len(norm.weight)))
        norm.bias.fill_(0.3)
    dino = Dino(copy.deepcopy(model), side=SIDE, positions="transformers")
    frame = letterbox(photos[0], dino.frame)
    grid, hooked, output = reference(model, frame, 0 if kind == "dinov2" else 4)
    tokens = dino.tokens(torch.from_numpy(frame)[None])[0]
    assert tokens.shape == (24, SIDE, SIDE)
    torch.testing.assert_close(tokens, grid, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.hidden_states[-1], hooked)
    torch.testing.assert_close(norm(hooked), output.last_hidden_state)
    assert (output.last_hidden_state - hooked).abs().mean() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_each_patch_is_the_cell_that_it_covers(models, kind):
    """Without attention's mixing, a bright patch changes its own token alone: rows and columns are not swapped, registers are left out."""
    model = copy.deepcopy(models[kind])
    blocks = model.encoder.layer if hasattr(model, "encoder") else model.model.layer
    for block in blocks:
        torch.nn.init.zeros_(block.attention.o_proj.weight)
    dino = Dino(model, side=SIDE)
    patch = dino.frame // SIDE
    frames = np.zeros((2, dino.frame, dino.frame, 3), np.uint8)
    frames[1, patch : 2 * patch, 4 * patch : 5 * patch] = 255
    dark, bright = dino.tokens(torch.from_numpy(frames))
    changed = (dark - bright).abs().amax(dim=0) > 1e-4
    assert changed.nonzero().tolist() == [[1, 4]]


def test_hub_positions_equal_a_bicubic_computed_by_hand():
    """Keys's kernel with a = -0.75, samples (i + 0.5) * n / (side + 0.1) - 0.5, the border repeated; in float64, axis by axis."""
    n, side, channels = 37, 60, 5
    learned = torch.randn(1, 1 + n * n, channels, generator=torch.Generator().manual_seed(0))
    weights = np.zeros((side, n))
    for i in range(side):
        at = (i + 0.5) * n / (side + 0.1) - 0.5
        for tap in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
            x, a = abs(at - tap), -0.75
            kernel = (a + 2) * x**3 - (a + 3) * x**2 + 1 if x <= 1 else a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
            weights[i, min(max(tap, 0), n - 1)] += kernel
    grid = learned[0, 1:].double().numpy().reshape(n, n, channels)
    expected = np.einsum("yi,xj,ijc->yxc", weights, weights, grid)
    got = hub_positions(learned, side)
    assert got.shape == (1, 1 + side * side, channels)
    np.testing.assert_allclose(got[0, 1:].numpy().reshape(side, side, channels), expected, atol=2e-5)
    torch.testing.assert_close(got[:, :1], learned[:, :1])


def test_positions_make_the_difference_and_only_for_dinov2(models, photos):
    """With hub positions the model equals one whose interpolation is overridden; the other kinds have nothing to choose."""
    for kind in KINDS:
        hub, plain = (Dino(copy.deepcopy(models[kind]), side=SIDE, positions=p) for p in ("hub", "transformers"))
        frame = torch.from_numpy(letterbox(photos[0], hub.frame))[None]
        if kind == "dinov2":
            overridden = copy.deepcopy(models[kind])
            stretched = hub_positions(overridden.embeddings.position_embeddings.detach(), SIDE)
            overridden.embeddings.interpolate_pos_encoding = lambda *_: stretched  # noqa: B023
            expected, _, _ = reference(overridden, frame[0].numpy(), 0)
            torch.testing.assert_close(hub.tokens(frame)[0], expected, atol=1e-5, rtol=1e-5)
            assert not torch.allclose(hub.tokens(frame), plain.tokens(frame), atol=1e-5)
        else:
            torch.testing.assert_close(hub.tokens(frame), plain.tokens(frame))


def test_pixels_are_those_of_the_published_processor(models, photos):
    dino = Dino(copy.deepcopy(models["dinov2"]), side=SIDE)
    seen = []
    dino.model.register_forward_pre_hook(lambda _, __, options: seen.append(options["pixel_values"]), with_kwargs=True)
    dino.describe(photos[:1])
    frame = letterbox(photos[0], dino.frame)
    processor = BitImageProcessorPil(
        do_resize=False, do_center_crop=False, image_mean=(0.485, 0.456, 0.406), image_std=(0.229, 0.224, 0.225)
    )
    expected = torch.as_tensor(processor(frame, return_tensors="pt").pixel_values)
    torch.testing.assert_close(seen[0], expected, atol=1e-6, rtol=0)
    black = (torch.zeros(3) - torch.tensor((0.485, 0.456, 0.406))) / torch.tensor((0.229, 0.224, 0.225))
    torch.testing.assert_close(seen[0][0, :, 0, 0], black)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_equals_single_images(models, photos, kind):
    dino = Dino(copy.deepcopy(models[kind]), side=SIDE)
    together = dino.describe(photos)
    assert [t.dtype for t in together] == [np.float16] * 3
    for photo, tokens in zip(photos, together, strict=True):
        np.testing.assert_allclose(dino.describe([photo])[0], tokens, atol=2e-3)
    assert dino.describe([]) == []


def test_tiny_models_are_the_same_every_time_and_leave_the_random_state_alone():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, second = (random_model("dinov3").state_dict() for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize(
    ("kind", "frame", "parameters"),
    [("dinov2", 840, 86_580_480), ("dinov2_registers", 840, 86_583_552), ("dinov3", 960, 85_660_416)],
)
def test_shapes_at_full_size(kind, frame, parameters):
    """The published ViT-B without memory: 768 channels of 60 x 60 cells."""
    with torch.device("meta"):
        model = random_model(kind, "full")
        assert sum(p.numel() for p in model.parameters()) == parameters
        dino = Dino(model, "meta")
        assert dino.frame == frame
        assert dino.tokens(torch.zeros(2, frame, frame, 3, dtype=torch.uint8)).shape == (2, 768, 60, 60)


@pytest.mark.parametrize("source", SOURCES)
def test_actors_fill_the_slot(source, photos):
    check_actors([source], ["image"])
    actor = source(TINY)
    described = actor.process_batch([{"image": photo} for photo in photos[:2]])
    assert [(row["dino"].shape, row["dino"].dtype) for row in described] == [((24, 60, 60), np.float16)] * 2
    np.testing.assert_allclose(source(TINY).process({"image": photos[1]})["dino"], described[1]["dino"], atol=2e-3)


@pytest.mark.parametrize(("source", "kind"), zip(SOURCES, KINDS, strict=True))
def test_weights_from_a_folder_are_those_that_run(tmp_path: Path, models, photos, source, kind):
    models[kind].save_pretrained(tmp_path / kind)
    config = RunConfig(models=ModelsConfig(device="cpu", cache=str(tmp_path), **{kind: str(tmp_path / kind)}))
    loaded, random = source(config), source(TINY)
    np.testing.assert_array_equal(loaded.process({"image": photos[0]})["dino"], random.process({"image": photos[0]})["dino"])
    first = source.made_of(config)
    assert first["weights"] != source.made_of(TINY)["weights"]
    changed = copy.deepcopy(models[kind])
    torch.nn.init.ones_(changed.embeddings.cls_token)
    changed.save_pretrained(tmp_path / kind)
    assert source.made_of(config)["weights"] != first["weights"]


def test_weights_of_another_dino_are_refused(tmp_path: Path, models):
    models["dinov2"].save_pretrained(tmp_path)
    config = RunConfig(models=ModelsConfig(device="cpu", dinov3=str(tmp_path)))
    with pytest.raises(WeightsError, match="dinov3_vit"):
        DinoV3Source(config)


def test_tokens_too_large_for_half_precision_are_an_error(models, photos):
    model = copy.deepcopy(models["dinov2"])
    for block in model.encoder.layer:
        torch.nn.init.constant_(block.mlp.fc2.bias, 1e6)
    with pytest.raises(FeatureError, match="float16"):
        Dino(model, side=SIDE).describe(photos[:1])


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_near(models, photos, kind):
    single, half = (
        Dino(copy.deepcopy(models[kind]), "cpu", d, SIDE).describe(photos[:1])[0] for d in (torch.float32, torch.bfloat16)
    )
    assert np.linalg.norm(half - single) < 0.03 * np.linalg.norm(single.astype(np.float32))
