"""Stable Diffusion and DIFT in their slot: against a plain computation with diffusers alone, and as actors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from actors.base import check_actors
from actors.foundation.dift import Dift, DiftOptions, DiftSource
from actors.foundation.freeu import FreeU
from actors.foundation.latent_diffusion import random_networks
from actors.foundation.stable_diffusion import StableDiffusion, StableDiffusionOptions, StableDiffusionSource
from sc3d.config import ModelsConfig, RunConfig
from sc3d.errors import ConfigError, FeatureError
from sc3d.features import Features
from sc3d.grid import Letterbox
from sc3d.images import letterbox
from sc3d.matching.fusion import group_descriptors

SCHEDULE = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
SIDES = {"sd.s3": 60, "sd.s4": 30, "sd.s5": 15}
TINY = RunConfig(models=ModelsConfig(variant="tiny", device="cpu"))


@pytest.fixture(scope="module")
def photos():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size, dtype=np.uint8) for size in ((40, 60, 3), (60, 40, 3))]


@pytest.fixture(scope="module")
def described(photos):
    return StableDiffusion(random_networks()).describe(photos, ["bus", "cow"])


@torch.inference_mode()
def by_hand(photo, tile, offsets, prompt=""):
    """The first channels of the inputs of `up_blocks[i].resnets[2]` of the whole UNet on each tile, added up and divided cell by cell."""
    networks = random_networks()
    frame = torch.from_numpy(letterbox(photo, 960)).permute(2, 0, 1)[None] / 255
    context = networks.text_encoder(
        networks.tokenizer([prompt], padding="max_length", max_length=77, return_tensors="pt").input_ids
    )[0]
    noise = torch.randn(1, 4, tile // 8, tile // 8, generator=torch.Generator().manual_seed(42))
    seen = {}
    for name, block, channels in (("sd.s5", 0, 32), ("sd.s4", 1, 32), ("sd.s3", 2, 16)):

        def keep(_, inputs, name=name, channels=channels):
            seen[name] = inputs[0][:, :channels]

        networks.unet.up_blocks[block].resnets[2].register_forward_pre_hook(keep)
    total = {name: torch.zeros(1, 16 if side == 60 else 32, side, side) for name, side in SIDES.items()}
    count = {name: torch.zeros(side, side) for name, side in SIDES.items()}
    for y in offsets:
        for x in offsets:
            latents = networks.vae.encode(frame[:, :, y : y + tile, x : x + tile] * 2 - 1).latent_dist.mode() * 0.18215
            noisy = SCHEDULE.add_noise(latents, noise, torch.tensor([50]))
            networks.unet(noisy, torch.tensor([50]), encoder_hidden_states=context)
            for name, side in SIDES.items():
                cell = 960 // side
                rows, columns = (slice(o // cell, (o + tile) // cell) for o in (y, x))
                total[name][:, :, rows, columns] += seen[name]
                count[name][rows, columns] += 1
    return {name: (total[name] / count[name])[0].numpy() for name in SIDES}


def test_layers_equal_a_plain_computation(photos, described):
    expected = by_hand(photos[0], 512, (0, 448))
    assert list(described[0]) == list(SIDES)
    for name, side in SIDES.items():
        assert described[0][name].dtype == np.float16
        assert described[0][name].shape[1:] == (side, side)
        np.testing.assert_allclose(described[0][name], expected[name], atol=3e-3)
        assert expected[name].std() > 0.1


@pytest.mark.slow
def test_one_pass_equals_a_plain_computation(photos, described):
    options = StableDiffusionOptions(tile=None, prompt="a photo of a {category}")
    whole = StableDiffusion(random_networks(), options=options).describe(photos[:1], ["bus"])[0]
    expected = by_hand(photos[0], 960, (0,), "a photo of a bus")
    for name in SIDES:
        np.testing.assert_allclose(whole[name], expected[name], atol=3e-3)
        assert np.abs(whole[name] - described[0][name]).mean() > 1e-3


def test_a_batch_equals_single_images_however_many_tiles_a_pass_has(photos, described):
    model = StableDiffusion(random_networks(), tiles_at_once=3)
    for together, alone in zip(model.describe(photos, ["bus", "cow"]), described, strict=True):
        for name, layer in alone.items():
            np.testing.assert_allclose(together[name], layer, atol=3e-3)
    again = StableDiffusion(random_networks()).describe(photos[1:], ["cow"])[0]
    for name, layer in described[1].items():
        np.testing.assert_array_equal(again[name], layer)
    assert model.describe([], []) == []


def test_options_reach_the_network(photos, described):
    """Seed, timestep, prompt and FreeU change the features; the prompt by the category in it."""
    base = described[0]["sd.s4"]
    for changed in (
        StableDiffusionOptions(seed=1),
        StableDiffusionOptions(timestep=261),
        StableDiffusionOptions(prompt="{category}"),
        StableDiffusionOptions(freeu=FreeU()),
    ):
        layer = StableDiffusion(random_networks(), options=changed).describe(photos[:1], ["bus"])[0]["sd.s4"]
        assert np.abs(layer - base).mean() > 1e-3, changed
        if changed.freeu:
            assert np.std(layer[:16]) > 1.1 * np.std(base[:16])


def test_options_out_of_range_are_refused():
    for wrong in ({"timestep": 1000}, {"timestep": -1}, {"tile": 500}, {"tile": 1024}, {"tile": 0}, {"tile": 544}):
        with pytest.raises(ConfigError):
            StableDiffusionOptions(**wrong)
    for wrong in ({"timestep": 1000}, {"ensemble": 0}, {"frame": 100}, {"frame": 0}):
        with pytest.raises(ConfigError):
            DiftOptions(**wrong)


def test_shapes_at_full_size():
    """The published networks without memory: 640, 1280 and 1280 channels; DIFT 1280 of 48 x 48."""
    with torch.device("meta"):
        networks, newer = random_networks("1.5", "full"), random_networks("2.1", "full")
    frames = torch.zeros(2, 960, 960, 3, dtype=torch.uint8, device="meta")
    layers = StableDiffusion(networks, "meta").layers(frames, ["bus", "bus"])
    assert {name: tuple(layer.shape) for name, layer in layers.items()} == {
        "sd.s3": (2, 640, 60, 60),
        "sd.s4": (2, 1280, 30, 30),
        "sd.s5": (2, 1280, 15, 15),
    }
    dift = Dift(newer, "meta", options=DiftOptions(ensemble=2), maps_at_once=2)
    assert dift.features(frames[:, :768, :768], ["bus", "cow"]).shape == (2, 1280, 48, 48)


@torch.inference_mode()
def test_dift_is_the_mean_over_the_draws(photos):
    """Against the whole UNet's second decoder block, one draw after the other."""
    options = DiftOptions(ensemble=3, frame=128)
    networks, seen = random_networks("2.1"), []
    networks.unet.up_blocks[1].register_forward_hook(lambda _, __, output: seen.append(output))
    pixels = torch.from_numpy(letterbox(photos[0], 128)).permute(2, 0, 1)[None] / 127.5 - 1
    text = networks.tokenizer(["a photo of a bus"], padding="max_length", max_length=77, return_tensors="pt").input_ids
    for k in range(3):
        draws = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(42 + k))
        posterior = networks.vae.encode(pixels).latent_dist
        latents = (posterior.mean + posterior.std * draws[:1]) * 0.18215
        noisy = SCHEDULE.add_noise(latents, draws[1:], torch.tensor([261]))
        networks.unet(noisy, torch.tensor([261]), encoder_hidden_states=networks.text_encoder(text)[0])
    dift = Dift(random_networks("2.1"), options=options, maps_at_once=2)
    features = [row["sd.dift"] for row in dift.describe(photos, ["bus", "cow"])]
    assert [(f.shape, f.dtype) for f in features] == [((32, 8, 8), np.float16)] * 2
    np.testing.assert_allclose(features[0], torch.cat(seen).mean(dim=0), atol=2e-3)
    np.testing.assert_allclose(dift.describe(photos[1:], ["cow"])[0]["sd.dift"], features[1], atol=2e-3)
    single = Dift(random_networks("2.1"), options=DiftOptions(ensemble=1, frame=128)).describe(photos[:1], ["bus"])[0]["sd.dift"]
    assert np.abs(single - features[0]).mean() > 1e-3


def test_the_actor_fills_the_slot_and_matching_takes_it(photos, described):
    check_actors([StableDiffusionSource], ["image", "category"])
    row = StableDiffusionSource(TINY).process({"image": photos[0], "category": "bus"})
    for name, layer in described[0].items():
        np.testing.assert_array_equal(row["sd"][name], layer)
    box = Letterbox(60, 40)
    foreground = np.ones((60, 60), bool)
    features = Features("a", box, foreground, 60.0, row["sd"])
    groups = group_descriptors(features, np.arange(3600))
    assert groups["sd"].shape == (3600, 16 + 32 + 32)
    torch.testing.assert_close(groups["sd"].norm(dim=1), torch.ones(3600))


def test_dift_s_actor(photos):
    check_actors([DiftSource], ["image", "category"])
    small = replace(TINY, models=replace(TINY.models, dift_frame=128))
    rows = DiftSource(small).process_batch([{"image": photo, "category": "bus"} for photo in photos])
    assert [row["sd"]["sd.dift"].shape for row in rows] == [(32, 8, 8)] * 2
    assert DiftSource.made_of(small) != DiftSource.made_of(TINY)


def test_weights_and_options_are_in_the_recipe(tmp_path: Path, photos, described):
    networks = random_networks()
    for part in ("unet", "vae", "text_encoder", "tokenizer"):
        getattr(networks, part).save_pretrained(tmp_path / "sd" / part)
    config = RunConfig(models=ModelsConfig(device="cpu", stable_diffusion=str(tmp_path / "sd"), cache=str(tmp_path / "c")))
    row = StableDiffusionSource(config).process({"image": photos[0], "category": "bus"})
    for name, layer in described[0].items():
        np.testing.assert_allclose(row["sd"][name], layer, atol=3e-3)
    recipes = [
        StableDiffusionSource.made_of(config),
        StableDiffusionSource.made_of(TINY),
        StableDiffusionSource.made_of(replace(config, models=replace(config.models, sd_freeu=True))),
    ]
    torch.nn.init.ones_(networks.unet.conv_in.weight)
    networks.unet.save_pretrained(tmp_path / "sd" / "unet")
    recipes.append(StableDiffusionSource.made_of(config))
    assert all(a != b for i, a in enumerate(recipes) for b in recipes[:i])


def test_features_too_large_for_half_precision_are_an_error(photos):
    networks = random_networks("2.1")
    torch.nn.init.constant_(networks.unet.up_blocks[1].upsamplers[0].conv.bias, 1e6)
    with pytest.raises(FeatureError, match="float16"):
        Dift(networks, options=DiftOptions(ensemble=1, frame=64)).describe(photos[:1], ["bus"])


def test_half_precision_is_near(photos, described):
    """The precision of GPUs, here on the CPU: everything that meets inside the networks is converted."""
    half = StableDiffusion(random_networks(), dtype=torch.bfloat16).describe(photos[:1], ["bus"])[0]
    for name, layer in described[0].items():
        assert np.linalg.norm(half[name] - layer) < 0.03 * np.linalg.norm(layer.astype(np.float32)), name
    options = DiftOptions(ensemble=1, frame=128)
    single, half = (
        Dift(random_networks("2.1"), "cpu", d, options).describe(photos[:1], ["bus"])[0] for d in (torch.float32, torch.bfloat16)
    )
    assert np.linalg.norm(half["sd.dift"] - single["sd.dift"]) < 0.03 * np.linalg.norm(single["sd.dift"].astype(np.float32))
