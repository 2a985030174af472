"""The adapter is the published network: keys, shapes, parameter counts, and outputs computed by the reference implementation."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from sc3d.errors import FeatureError, SchemaError
from sc3d.features import Features
from sc3d.grid import Letterbox
from training.adapter import (
    Adapter,
    adapter_from_state,
    adapter_input,
    adapter_metadata,
    decode_adapter,
    encode_adapter,
    feature_dims,
    kept_features,
    load_adapter,
    native_input,
    save_adapter,
    source_names,
)
from training.network import norm_groups


def _features(side: int = 8, **sources: tuple[int, int]) -> Features:
    rng = np.random.default_rng(0)
    arrays = {n.replace("_", "."): rng.normal(size=(c, s, s)).astype(np.float16) for n, (c, s) in sources.items()}
    return Features("img", Letterbox(100, 80, side=side), np.ones((side, side), bool), 50.0, arrays)


def _reference(adapter: Adapter, x: torch.Tensor) -> torch.Tensor:
    """The network as a function of its state dict alone, with group norm written out."""
    state, total = adapter.state_dict(), 0

    def norm(y: torch.Tensor, key: str) -> torch.Tensor:
        groups = norm_groups(y.shape[1])
        g = y.reshape(len(y), groups, -1)
        g = (g - g.mean(2, keepdim=True)) / (g.var(2, keepdim=True, unbiased=False) + 1e-5).sqrt()
        return g.reshape(y.shape) * state[f"{key}.weight"][:, None, None] + state[f"{key}.bias"][:, None, None]

    def conv(y: torch.Tensor, key: str, padding: int = 0) -> torch.Tensor:
        return norm(functional.conv2d(y, state[f"{key}.weight"], padding=padding), f"{key}.norm")

    weights, start = torch.softmax(state["mixing_weights"], 0), 0
    for i, dim in enumerate(adapter.feature_dims):
        part, key = x[:, start : start + dim], f"bottleneck_layers.{i}.0"
        start += dim
        y = conv(conv(conv(part, f"{key}.conv1").clamp(min=0), f"{key}.conv2", 1).clamp(min=0), f"{key}.conv3")
        short = conv(part, f"{key}.shortcut") if dim != adapter.channels else part
        total = total + weights[i] * (y + short).clamp(min=0)
    return total


# Counts of the published networks (DIY-SC's checkpoint is [768] -> 768).
@pytest.mark.parametrize(
    ("dims", "channels", "parameters", "keys"),
    [
        ([768], 768, 628_995, 12),
        ([768], 384, 490_371, 15),
        ([768], 128, 136_835, 15),
        ([640, 1280, 1280, 768], 768, 5_150_214, 48),
        ([640, 1280, 1280, 768], 384, 2_391_558, 51),
    ],
)
def test_parameters_and_keys_are_those_of_the_published_networks(
    dims: list[int], channels: int, parameters: int, keys: int
) -> None:
    adapter = Adapter(dims, channels)
    assert sum(p.numel() for p in adapter.parameters()) == parameters
    assert len(adapter.state_dict()) == keys


def test_golden_keys_shapes_and_output(shared: Path) -> None:
    shapes = json.loads((shared / "golden" / "adapter_state_dict.json").read_text())
    initial = Adapter([640, 1280, 1280, 768], 768).state_dict()
    assert {k: list(v.shape) for k, v in initial.items()} == shapes
    state = {}
    for key, shape in shapes.items():
        x = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
        if len(shape) >= 2:
            x = x / np.float32(np.sqrt(np.prod(shape[1:])))
        elif len(shape) == 1:
            x = 1 + np.float32(0.1) * x if key.endswith("weight") else np.float32(0.05) * x
        state[key] = torch.from_numpy(np.asarray(x, np.float32)) if shape else initial[key]
    adapter = adapter_from_state(state)
    x = np.random.default_rng(11).standard_normal((1, 3968, 12, 12)).astype(np.float32)
    with torch.no_grad():
        output = adapter(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(output, np.load(shared / "golden" / "adapter.npz")["output"], atol=1e-5)


@pytest.mark.parametrize(("dims", "channels"), [([6], 6), ([6, 4], 20), ([5, 12, 8], 12), ([3], 128)])
def test_agrees_with_a_plain_reference(dims: list[int], channels: int) -> None:
    torch.manual_seed(0)
    adapter = Adapter(dims, channels)
    with torch.no_grad():
        for p in adapter.parameters():
            p.copy_(torch.randn_like(p))
        x = torch.randn(2, sum(dims), 7, 7)
        torch.testing.assert_close(adapter(x), _reference(adapter, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [20, 6])
def test_sources_at_their_own_grids_give_the_same_descriptors(channels: int) -> None:
    features = _features(dino=(6, 8), sd_s3=(5, 8), sd_s4=(7, 4), sd_s5=(6, 2))
    torch.manual_seed(0)
    adapter = Adapter(feature_dims(features), channels)
    with torch.no_grad():
        torch.testing.assert_close(adapter(native_input(features), (8, 8)), adapter(adapter_input(features)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("channels", "groups"), [(768, 32), (192, 32), (128, 32), (32, 32), (20, 20), (48, 24), (33, 11), (37, 1)])
def test_group_count_is_32_or_the_largest_divisor_below(channels: int, groups: int) -> None:
    assert norm_groups(channels) == groups


def test_input_is_the_raw_sources_in_upstream_order() -> None:
    features = _features(dino=(3, 8), sd_s4=(2, 4), sd_s3=(5, 8))
    assert source_names(features) == ["sd.s3", "sd.s4", "dino"]
    assert feature_dims(features) == [5, 2, 3]
    x = adapter_input(features)
    assert x.shape == (1, 10, 8, 8)
    np.testing.assert_array_equal(x[0, :5], features.sources["sd.s3"].astype(np.float32))
    np.testing.assert_array_equal(x[0, 7:], features.sources["dino"].astype(np.float32))
    # Bilinear upsampling by two, align_corners=False: a corner is kept, the next cell is 3/4 of it and 1/4 of its neighbour.
    coarse = features.sources["sd.s4"].astype(np.float32)
    np.testing.assert_allclose(x[0, 5:7, 0, 0], coarse[:, 0, 0])
    np.testing.assert_allclose(x[0, 5:7, 0, 1], 0.75 * coarse[:, 0, 0] + 0.25 * coarse[:, 0, 1], rtol=1e-6)


@pytest.mark.parametrize("sources", [{}, {"dino": (3, 8), "partfield": (2, 8)}])
def test_sources_that_have_no_place_are_refused(sources: dict[str, tuple[int, int]]) -> None:
    with pytest.raises(FeatureError, match="img"):
        adapter_input(_features(**sources))


def test_describe_gives_unit_descriptors_of_the_forward_pass() -> None:
    features = _features(dino=(6, 8), sd_s3=(4, 4))
    adapter = Adapter(feature_dims(features), 16)
    described = adapter.describe(features)
    assert described.shape == (16, 8, 8)
    assert described.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(described, axis=0), 1, atol=1e-5)
    with torch.no_grad():
        raw = adapter(adapter_input(features))[0].numpy()
    assert np.argmax((raw * described).sum(0)) == np.argmax(np.linalg.norm(raw, axis=0))


def test_any_raw_features_are_described_as_those_of_an_image() -> None:
    features = _features(dino=(6, 8), sd_s3=(4, 4))
    adapter = Adapter(feature_dims(features), 16)
    raw = [features.sources[name].astype(np.float64) for name in source_names(features)]
    np.testing.assert_allclose(adapter.describe(raw), adapter.describe(features), atol=1e-6)
    single = Adapter([6], 16)
    assert single.describe(features.sources["dino"]).shape == (16, 8, 8)
    with pytest.raises(FeatureError, match=r"\[4, 6\].*\[6\]"):
        adapter.describe(features.sources["dino"])
    with pytest.raises(FeatureError, match="rows, columns"):
        adapter.describe([raw[0], raw[1].reshape(6, -1)])


def test_describe_names_both_when_the_features_do_not_fit() -> None:
    with pytest.raises(FeatureError, match=r"img.*\[4, 6\].*\[6\]"):
        Adapter([4, 6], 8).describe(_features(dino=(6, 8)))


def test_saved_adapter_comes_back_with_its_metadata(tmp_path: Path) -> None:
    adapter = Adapter([6, 4], 8)
    save_adapter(adapter, tmp_path / "a.safetensors", ["sd.s3", "dino"], "abc123")
    loaded = load_adapter(tmp_path / "a.safetensors", expected_dims=[6, 4])
    x = torch.randn(1, 10, 5, 5)
    torch.testing.assert_close(loaded(x), adapter(x), rtol=0, atol=0)
    metadata = adapter_metadata((tmp_path / "a.safetensors").read_bytes())
    assert metadata == {"feature_dims": [6, 4], "channels": 8, "sources": ["sd.s3", "dino"], "recipe": "abc123"}


def test_published_checkpoint_format_loads_strictly(tmp_path: Path) -> None:
    adapter = Adapter([16], 16)
    torch.save(adapter.state_dict(), tmp_path / "best.pth")
    loaded = load_adapter(tmp_path / "best.pth")
    assert (loaded.feature_dims, loaded.channels) == ([16], 16)
    torch.save({**adapter.state_dict(), "extra": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(FeatureError, match="extra"):
        load_adapter(tmp_path / "more.pth")


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_checkpoint_for_other_features_names_both(tmp_path: Path, name: str) -> None:
    adapter = Adapter([6], 8)
    if name.endswith("pth"):
        torch.save(adapter.state_dict(), tmp_path / name)
    else:
        save_adapter(adapter, tmp_path / name)
    with pytest.raises(FeatureError, match=r"\[6\].*\[640, 768\]"):
        load_adapter(tmp_path / name, expected_dims=[640, 768])


class _Executes:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("import pathlib; pathlib.Path('executed').touch()",))


def test_a_checkpoint_that_would_execute_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"mixing_weights": _Executes()}, tmp_path / "evil.pth")
    with pytest.raises(SchemaError, match="more than plain tensors"):
        load_adapter(tmp_path / "evil.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "missing"])
def test_damaged_files_give_a_typed_error(tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / name
    adapter = Adapter([6], 8)
    if name.endswith("pth"):
        torch.save(adapter.state_dict(), path)
    else:
        save_adapter(adapter, path)
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "noise": b"\x07" * 100}[damage])
    with pytest.raises(SchemaError, match=name):
        load_adapter(path)


@pytest.mark.parametrize("state", [{}, {"mixing_weights": torch.ones(2)}, torch.ones(3), [1]])
def test_other_state_dicts_are_refused(state: object) -> None:
    with pytest.raises(FeatureError, match="AggregationNetwork"):
        adapter_from_state(state)  # type: ignore[arg-type]


def test_encoding_is_reproducible() -> None:
    adapter = Adapter([6], 8)
    assert encode_adapter(adapter) == encode_adapter(decode_adapter(encode_adapter(adapter)))


@pytest.mark.parametrize(("dims", "channels"), [([], 8), ([0], 8), ([4], 0)])
def test_impossible_sizes_are_refused(dims: list[int], channels: int) -> None:
    with pytest.raises(FeatureError, match="positive"):
        Adapter(dims, channels)


def test_an_adapter_that_starts_from_features_is_its_shortcuts() -> None:
    torch.manual_seed(0)
    adapter = Adapter([6, 8], 8)
    adapter.start_from_features()
    x = torch.randn(1, 14, 5, 5)
    blocks = [layers[0] for layers in adapter.bottleneck_layers]
    expected = sum(
        torch.relu(part if b.shortcut is None else b.shortcut(part, (5, 5)))
        for b, part in zip(blocks, x.split([6, 8], 1), strict=True)
    )
    torch.testing.assert_close(adapter(x), expected / 2)


def _keeping(share: float) -> Adapter:
    torch.manual_seed(0)
    names = ["sd.s3", "sd.s4", "dino"]
    return Adapter([6, 4, 8], 16, kept_features(names, {"sd": 0.6, "dino": 0.4}, share)).eval()


def test_kept_features_make_cosines_the_weighted_mean_of_both() -> None:
    adapter = _keeping(0.3)
    x = [torch.randn(1, 6, 3, 3), torch.randn(1, 4, 6, 6), torch.randn(1, 8, 6, 6)]
    found = adapter.describe_maps(x)[0].flatten(1)
    assert found.shape == (adapter.descriptor_channels, 36)
    torch.testing.assert_close(adapter(x).norm(dim=1), torch.ones(1, 6, 6))
    fine = functional.interpolate(x[0], size=(6, 6), mode="bilinear", align_corners=False)
    sd, dino = (functional.normalize(part[0].flatten(1), dim=0) for part in (torch.cat([fine, x[1]], dim=1), x[2]))
    alone = Adapter([6, 4, 8], 16)
    alone.load_state_dict({k: v for k, v in adapter.state_dict().items() if not k.startswith("kept.")})
    learned = alone.eval().describe_maps(x)[0].flatten(1)
    expected = 0.3 * (0.6 * sd.T @ sd + 0.4 * dino.T @ dino) + 0.7 * learned.T @ learned
    torch.testing.assert_close(found.T @ found, expected)


def test_beside_kept_features_the_learned_part_is_computed_on_their_finest_grid() -> None:
    adapter = _keeping(0.3)
    x = [torch.randn(1, 6, 3, 3), torch.randn(1, 4, 6, 6), torch.randn(1, 8, 6, 6)]
    alone = Adapter([6, 4, 8], 16)
    alone.load_state_dict({k: v for k, v in adapter.state_dict().items() if not k.startswith("kept.")})
    fine = functional.interpolate(alone(x), size=(12, 12), mode="bilinear", align_corners=False)
    found = adapter(x, (12, 12))[:, 18:]
    torch.testing.assert_close(found, 0.7**0.5 * functional.normalize(fine, dim=1))


def test_an_adapter_that_keeps_features_is_read_as_it_was_written() -> None:
    adapter = _keeping(0.3)
    x = [torch.randn(1, 6, 3, 3), torch.randn(1, 4, 6, 6), torch.randn(1, 8, 6, 6)]
    read = decode_adapter(encode_adapter(adapter))
    assert torch.equal(read.describe_maps(x), adapter.describe_maps(x))
    assert kept_features(["dino"], {"dino": 0.4}, 0.0) is None


def test_the_gradient_of_what_is_learned_beside_kept_features_is_finite_where_nothing_is() -> None:
    adapter = _keeping(0.5).train()
    x = [torch.zeros(1, 6, 3, 3), torch.zeros(1, 4, 6, 6), torch.zeros(1, 8, 6, 6)]
    adapter(x).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in adapter.parameters() if p.grad is not None)
