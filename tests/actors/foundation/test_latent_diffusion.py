"""Parts of the diffusion models: noise, latents, prompts, the shortened UNet, FreeU, and loading from a folder."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.utils.torch_utils import fourier_filter
from safetensors.torch import load_file, save_file

from actors.foundation.freeu import FreeU, scale_low_frequencies
from actors.foundation.latent_diffusion import (
    Prompts,
    add_noise,
    drop_decoder,
    end_after,
    load_networks,
    posterior,
    random_networks,
    seeded_noise,
)
from sc3d.errors import PreflightError, WeightsError

TIMESTEP = torch.tensor([50])


@pytest.fixture(scope="module")
def networks():
    return random_networks("1.5")


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 4, 24, 24, generator=generator), torch.randn(2, 77, 16, generator=generator)


@pytest.fixture
def folder(networks, tmp_path: Path) -> Path:
    for part in ("unet", "vae", "text_encoder", "tokenizer"):
        getattr(networks, part).save_pretrained(tmp_path / part)
    return tmp_path


def calls_of(module):
    count = []
    for part in module.modules():
        if not list(part.children()):
            part.register_forward_hook(lambda *_: count.append(1))
    return count


@torch.inference_mode()
def test_noise_and_latents_are_those_of_diffusers(networks):
    latents = torch.randn(2, 4, 8, 8)
    noise = seeded_noise(42, 8)
    schedule = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    for timestep in (0, 50, 261, 999):
        expected = schedule.add_noise(latents, noise.expand(2, -1, -1, -1), torch.tensor([timestep]))
        torch.testing.assert_close(add_noise(latents, noise, timestep), expected, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(noise, torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(42)))
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    expected = networks.vae.encode(pixels).latent_dist
    vae = copy.deepcopy(networks.vae)
    drop_decoder(vae)
    mean, deviation = posterior(vae, pixels)
    torch.testing.assert_close(mean, expected.mode() * 0.18215)
    torch.testing.assert_close(deviation, expected.std * 0.18215)
    assert not [name for name, _ in vae.named_parameters() if name.startswith(("decoder", "post_quant"))]


@pytest.mark.parametrize(("block", "layer", "read"), [(2, 1, "attentions"), (0, 1, "resnets"), (1, None, "")])
@torch.inference_mode()
def test_a_shortened_unet_computes_the_same_and_less(networks, inputs, block, layer, read):
    latents, contexts = inputs
    whole, short = copy.deepcopy(networks.unet), copy.deepcopy(networks.unet)
    seen = []
    part = whole.up_blocks[block] if layer is None else getattr(whole.up_blocks[block], read)[layer]
    part.register_forward_hook(lambda _, __, output: seen.append(output[0] if isinstance(output, tuple) else output))
    end_after(short, block, layer)
    counts = calls_of(whole), calls_of(short)
    whole(latents, TIMESTEP, encoder_hidden_states=contexts)
    output = short(latents, TIMESTEP, encoder_hidden_states=contexts).sample
    assert torch.equal(output, seen[0])
    assert len(counts[1]) < len(counts[0])
    assert sum(p.numel() for p in short.parameters()) < sum(p.numel() for p in whole.parameters())


@pytest.mark.parametrize("size", [(8, 8), (15, 15), (16, 16), (30, 30), (6, 9)])
@pytest.mark.parametrize("factor", [0.2, 0.9, 1.0])
def test_low_frequencies_without_a_fourier_transform(size, factor):
    features = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(scale_low_frequencies(features, factor), fourier_filter(features, 1, factor), atol=1e-5, rtol=1e-5)
    half = scale_low_frequencies(features.bfloat16(), factor)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), scale_low_frequencies(features, factor), atol=0.05, rtol=0.05)


def explicit_freeu(unet, latents, contexts):
    """The decoder block by block with FreeU in place, as GeoAware-SC's UNet does it; what enters each block, amplified."""
    embedding = unet.time_embedding(unet.get_time_embed(sample=latents, timestep=TIMESTEP))
    h = unet.conv_in(latents)
    skips = [h]
    for block in unet.down_blocks:
        given = {"encoder_hidden_states": contexts} if hasattr(block, "attentions") else {}
        h, more = block(hidden_states=h, temb=embedding, **given)
        skips += more
    h = unet.mid_block(h, embedding, encoder_hidden_states=contexts)
    entered = []
    wide, narrow = 32, 16
    for block in unet.up_blocks:
        for i, resnet in enumerate(block.resnets):
            skip, h = skips.pop(), h.contiguous()
            if h.shape[1] == wide:
                h[:, : wide // 2] *= 1.2
                skip = fourier_filter(skip, 1, 0.9)
            elif h.shape[1] == narrow:
                h[:, : narrow // 2] *= 1.4
                skip = fourier_filter(skip, 1, 0.2)
            entered.append(h.clone())
            h = resnet(torch.cat([h, skip], dim=1), embedding)
            if hasattr(block, "attentions"):
                h = block.attentions[i](h, encoder_hidden_states=contexts, return_dict=False)[0]
        if block.upsamplers is not None:
            h = block.upsamplers[0](h)
    return entered, unet.conv_out(unet.conv_act(unet.conv_norm_out(h)))


@torch.inference_mode()
def test_freeu_s_hooks_equal_the_explicit_loop(networks, inputs):
    latents, contexts = inputs
    entered, expected = explicit_freeu(networks.unet, latents, contexts)
    unet, freeu, seen = copy.deepcopy(networks.unet), FreeU(), []
    freeu.install(unet)
    for block in unet.up_blocks:
        part = (block.attentions if hasattr(block, "attentions") else block.resnets)[1]
        part.register_forward_hook(lambda _, __, output: seen.append(output[0] if isinstance(output, tuple) else output))
    output = unet(latents, TIMESTEP, encoder_hidden_states=contexts).sample
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
    for read, block in zip(seen, (2, 5, 8, 11), strict=True):
        torch.testing.assert_close(freeu.amplify(read, unet), entered[block], atol=1e-5, rtol=1e-5)
    plain = networks.unet(latents, TIMESTEP, encoder_hidden_states=contexts).sample
    assert (plain - expected).norm() > 0.01 * plain.norm()
    torch.testing.assert_close(freeu.amplify(torch.ones(1, 8, 2, 2), unet), torch.ones(1, 8, 2, 2))


@torch.inference_mode()
def test_prompts_are_encoded_as_the_published_pipeline_does(networks):
    prompts = Prompts(networks, "a photo of a {category}")
    contexts = prompts.contexts(["bus", "dining table", "bus"])
    assert contexts.shape == (3, 77, 16)
    tokens = networks.tokenizer(["a photo of a bus"], padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    torch.testing.assert_close(contexts[:1], networks.text_encoder(tokens.input_ids)[0])
    assert torch.equal(contexts[0], contexts[2])
    assert not torch.allclose(contexts[0], contexts[1])
    assert Prompts(networks, "").contexts(["a " * 500]).shape == (1, 77, 16)
    assert torch.equal(*Prompts(networks, "").contexts(["bus", "cow"]))
    assert Prompts(networks, "{category} {x}").contexts(["long " * 100 + "{0}"]).shape == (1, 77, 16)


def test_networks_come_back_from_a_folder(networks, folder, inputs):
    loaded = load_networks(folder)
    for part in ("unet", "vae", "text_encoder"):
        expected = getattr(networks, part).state_dict()
        for name, value in getattr(loaded, part).state_dict().items():
            assert torch.equal(value, expected[name]), name
    texts = ["a photo of a Bus", ""]
    assert loaded.tokenizer(texts, padding="max_length", max_length=77) == networks.tokenizer(
        texts, padding="max_length", max_length=77
    )


def drop_tensor(file: Path) -> None:
    state = load_file(file)
    del state[sorted(state)[0]]
    save_file(state, file, metadata={"format": "pt"})


def reshape_tensor(file: Path) -> None:
    state = load_file(file)
    state[sorted(state)[0]] = torch.zeros(3, 5)
    save_file(state, file, metadata={"format": "pt"})


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (drop_tensor, "1 missing"),
        (reshape_tensor, "1 of another shape"),
        (cut_short, "cut short"),
        (Path.unlink, "only .safetensors"),
    ],
)
def test_harmed_weights_are_refused(folder, part, harm, says, capfd):
    harm(next((folder / part).glob("*.safetensors")))
    with pytest.raises(WeightsError, match=says) as error:
        load_networks(folder)
    assert str(folder / part) in str(error.value)
    assert "LOAD REPORT" not in capfd.readouterr().err


def test_pickles_are_not_read(networks, folder):
    file = next((folder / "unet").glob("*.safetensors"))
    torch.save(load_file(file), folder / "unet" / "diffusion_pytorch_model.bin")
    file.unlink()
    with pytest.raises(WeightsError, match=r"only \.safetensors"):
        load_networks(folder)


def test_other_models_and_missing_parts_are_refused(networks, folder, monkeypatch):
    (folder / "tokenizer" / "tokenizer.json").write_text("{")
    with pytest.raises(WeightsError, match="tokenizer"):
        load_networks(folder)
    (folder / "vae" / "config.json").write_bytes((folder / "unet" / "config.json").read_bytes())
    with pytest.raises(WeightsError, match="'UNet2DConditionModel', not 'AutoencoderKL'"):
        load_networks(folder)
    (folder / "unet" / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="not valid JSON"):
        load_networks(folder)
    with pytest.raises(WeightsError, match="not one file"):
        load_networks(folder / "unet" / "config.json")
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(PreflightError, match="foundation"):
        load_networks(folder)


@pytest.mark.parametrize(("version", "context", "parameters"), [("1.5", 768, 859_520_964), ("2.1", 1024, 865_910_724)])
def test_full_networks_have_the_published_sizes(version, context, parameters):
    with torch.device("meta"):
        full = random_networks(version, "full")
    assert sum(p.numel() for p in full.unet.parameters()) == parameters
    assert sum(p.numel() for p in full.vae.parameters()) == 83_653_863
    assert full.text_encoder.config.hidden_size == full.unet.config.cross_attention_dim == context


def test_tiny_networks_are_the_same_every_time(networks):
    again = random_networks("1.5")
    for part in ("unet", "vae", "text_encoder"):
        for (name, one), other in zip(getattr(networks, part).named_parameters(), getattr(again, part).parameters(), strict=True):
            assert torch.equal(one, other), name
    assert np.isfinite(sum(float(p.sum()) for p in again.unet.parameters()))
