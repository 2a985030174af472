"""The adapter: what turns frozen image features into descriptors that know about geometry.

An independent implementation of the AggregationNetwork of GeoAware-SC and DIY-SC: one bottleneck residual block a feature source, and a
softmax-weighted sum of their outputs. Its state dict has the same keys and shapes, so the published checkpoints load strictly.

To use a trained adapter on described images::

    adapter = load_adapter("adapter.safetensors")
    source, target = adapter.describe(features_source), adapter.describe(features_target)    # (C, 60, 60) each, unit length per cell
    similarity = source.reshape(len(source), -1).T @ target.reshape(len(target), -1)         # (3600, 3600) cosines

Shape letters: B images, D_s channels of source s on its h_s x w_s grid, D their sum, C output channels, H = W cells of the working grid.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn
from torch.nn import functional

from sc3d.errors import FeatureError, SchemaError
from sc3d.features import Features

ADAPTER_VERSION = 1
NORM_GROUPS = 32
_GROUP_ORDER = ("sd", "dino")
_METADATA_KEY = "sc3d.adapter"
_EPSILON = 1e-10


def source_names(features: Features) -> list[str]:
    """Names of the adapter's sources in its input order: the layers of ``sd`` sorted by name, then ``dino``.

    Raises:
        FeatureError: there is none of them, or there is a source of another group.
    """
    groups = {name: name.split(".")[0] for name in features.sources}
    unknown = sorted(name for name, group in groups.items() if group not in _GROUP_ORDER)
    if unknown or not groups:
        raise FeatureError(
            f"{features.image_id}: the adapter reads the sources sd.* and dino; it cannot place {', '.join(unknown) or 'none at all'}"
        )
    return sorted(groups, key=lambda name: (_GROUP_ORDER.index(groups[name]), name))


def feature_dims(features: Features) -> list[int]:
    """Channels of each adapter source, in the order of :func:`source_names`."""
    return [features.sources[name].shape[0] for name in source_names(features)]


def native_input(features: Features) -> list[Tensor]:
    """Raw, un-normalised sources of one image at their own grids: a (1, D_s, h_s, w_s) float32 tensor each, on the CPU."""
    return [torch.from_numpy(np.ascontiguousarray(features.sources[name]))[None].float() for name in source_names(features)]


def adapter_input(features: Features) -> Tensor:
    """Raw, un-normalised sources of one image, resized to the working grid (bilinear, align_corners=False) and concatenated.

    Returns:
        (1, D, H, W) float32 on the CPU: for the paper's features cat[s3, up(s4), up(s5), dino].
    """
    side = features.letterbox.side
    return torch.cat([_resized(part, (side, side)) for part in native_input(features)], dim=1)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if x.shape[-2:] == size else functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def norm_groups(channels: int) -> int:
    """Groups of the group norm over ``channels``: 32 as upstream, or the largest smaller number that divides them."""
    return next(g for g in range(min(NORM_GROUPS, channels), 0, -1) if channels % g == 0)


class NormedConv(nn.Conv2d):
    """A convolution without bias, followed by group norm over the whole map (so borders and background take part).

    A 1x1 convolution without bias commutes with bilinear resizing, whose weights sum to one. So a source of a coarser grid is convolved
    there and resized after, which gives the same numbers for a fraction of the work.
    """

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2, bias=False)
        self.norm = nn.GroupNorm(norm_groups(outputs), outputs, eps=1e-5)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        y = super().forward(x)
        result: Tensor = self.norm(y if size is None else _resized(y, size))
        return result


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions with a residual connection and a final ReLU: (B, inputs, h, w) -> (B, outputs, H, W), >= 0."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        width = max(outputs // 4, 1)
        self.shortcut = NormedConv(inputs, outputs, 1) if inputs != outputs else None
        self.conv1 = NormedConv(inputs, width, 1)
        self.conv2 = NormedConv(width, width, 3)
        self.conv3 = NormedConv(width, outputs, 1)

    def silence_residual(self) -> None:
        """Make the block its shortcut alone, until training says otherwise (zero scale of the last norm, as in ResNet training)."""
        nn.init.zeros_(self.conv3.norm.weight)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        y = self.conv3(functional.relu(self.conv2(functional.relu(self.conv1(x, size)))))
        return functional.relu(y + (_resized(x, size) if self.shortcut is None else self.shortcut(x, size)))


class Adapter(nn.Module):
    """One bottleneck a source and a softmax-weighted sum: 628,995 parameters for [768] -> 768, 5,150,214 for four sources.

    Args:
        feature_dims: channels of each source, in input order.
        channels: channels C of the descriptor.

    Attributes:
        logit_scale: logarithm of the inverse temperature of the sparse loss, initially ln(1/0.07). ``self_logit_scale`` is upstream's
            second one; no loss here reads it, and it is kept, frozen, so that checkpoints load strictly.

    Raises:
        FeatureError: no source, or a size below one.
    """

    def __init__(self, feature_dims: Sequence[int], channels: int) -> None:
        super().__init__()
        if not feature_dims or min(*feature_dims, channels) < 1:
            raise FeatureError(f"an adapter needs sources and positive sizes, got {list(feature_dims)} -> {channels}")
        self.feature_dims = [int(d) for d in feature_dims]
        self.channels = int(channels)
        self.bottleneck_layers = nn.ModuleList(nn.ModuleList([Bottleneck(d, channels)]) for d in self.feature_dims)
        self.mixing_weights = nn.Parameter(torch.ones(len(self.feature_dims)))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.self_logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)), requires_grad=False)

    def forward(self, x: Tensor | Sequence[Tensor], size: tuple[int, int] | None = None) -> Tensor:
        """Raw features -> descriptors (B, C, H, W), non-negative, not normalised.

        Args:
            x: all sources at the working grid, (B, D, H, W) as upstream; or one (B, D_s, h_s, w_s) a source at its own grid.
            size: the working grid (H, W); by default the grid of the finest source.
        """
        parts = self._split(x) if isinstance(x, Tensor) else list(x)
        if [p.shape[1] for p in parts] != self.feature_dims:
            raise FeatureError(f"the adapter is for sources of {self.feature_dims} channels, got {[p.shape[1] for p in parts]}")
        height, width = size or max((p.shape[-2], p.shape[-1]) for p in parts)
        weights = torch.softmax(self.mixing_weights, dim=0)
        total = torch.zeros((), device=weights.device, dtype=weights.dtype)
        for weight, layers, part in zip(weights, self.bottleneck_layers, parts, strict=True):
            total = total + weight * cast(nn.ModuleList, layers)[0](part, (height, width))
        return total

    def start_from_features(self) -> None:
        """Make every block its shortcut alone, so that training starts from (projected) features."""
        for layers in self.bottleneck_layers:
            for block in cast("nn.ModuleList", layers):
                cast("Bottleneck", block).silence_residual()

    def _split(self, x: Tensor) -> list[Tensor]:
        if x.shape[1] != sum(self.feature_dims):
            raise FeatureError(f"the adapter takes {self.feature_dims} = {sum(self.feature_dims)} channels, got {x.shape[1]}")
        return list(x.split(self.feature_dims, dim=1))

    @torch.no_grad()
    def describe(self, features: Features) -> np.ndarray:
        """Descriptors (C, H, W) float32 of one image, unit length at each cell, computed on the adapter's device.

        Raises:
            FeatureError: the image has other sources than the adapter was made for.
        """
        check_dims(self.feature_dims, feature_dims(features), features.image_id)
        device, side = self.mixing_weights.device, features.letterbox.side
        maps = self([part.to(device) for part in native_input(features)], (side, side))
        result: np.ndarray = unit_length(maps)[0].cpu().numpy()
        return result


def unit_length(maps: Tensor) -> Tensor:
    """Descriptors (B, C, ...) divided by their length along C, plus 1e-10 as upstream."""
    return maps / (maps.norm(dim=1, keepdim=True) + _EPSILON)


def check_dims(expected: Sequence[int], found: Sequence[int], where: str) -> None:
    """Raise :class:`FeatureError`, naming both, unless an adapter for ``expected`` source channels can read ``found``."""
    if list(expected) != list(found):
        raise FeatureError(
            f"{where}: the adapter is for sources of {list(expected)} channels, these have {list(found)}; "
            "describe the images with the models the adapter was trained on, or train a new one"
        )


def encode_adapter(adapter: Adapter, sources: Sequence[str] = (), recipe: str = "") -> bytes:
    """Serialise as safetensors; dimensions, names of the sources and the recipe of the features stand in the metadata."""
    metadata = {
        "schema_version": ADAPTER_VERSION,
        "feature_dims": adapter.feature_dims,
        "channels": adapter.channels,
        "sources": list(sources),
        "recipe": recipe,
    }
    state = {name: value.detach().cpu().contiguous() for name, value in adapter.state_dict().items()}
    # One metadata entry: safetensors writes several in a random order, and equal adapters shall be equal bytes.
    return save_safetensors(state, {_METADATA_KEY: json.dumps(metadata)})


def adapter_metadata(data: bytes, where: str = "adapter") -> dict[str, Any]:
    """``feature_dims``, ``channels``, ``sources`` and ``recipe`` of an encoded adapter.

    Raises:
        SchemaError: not an adapter of sc3d, damaged, or of another version.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        entries = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except (ValueError, AttributeError):
        raise SchemaError(f"{where}: not a readable safetensors file; train again or fetch it again") from None
    if _METADATA_KEY not in entries:
        raise SchemaError(f"{where}: not an adapter of sc3d")
    metadata: dict[str, Any] = json.loads(entries[_METADATA_KEY])
    version = metadata.pop("schema_version")
    if version != ADAPTER_VERSION:
        raise SchemaError(f"{where}: adapter format {version}, this sc3d reads {ADAPTER_VERSION}; upgrade sc3d or train again")
    return metadata


def decode_adapter(data: bytes, where: str = "adapter") -> Adapter:
    """Inverse of :func:`encode_adapter`; the adapter is in evaluation mode, on the CPU.

    Raises:
        SchemaError: not an adapter of sc3d, damaged, or of another version.
        FeatureError: the weights do not fit the dimensions in the metadata.
    """
    adapter_metadata(data, where)
    try:
        return adapter_from_state(load_safetensors(data), where)
    except SafetensorError as error:
        raise SchemaError(f"{where}: damaged ({error}); train again or fetch it again") from None


def adapter_from_state(state: Mapping[str, Tensor], where: str = "checkpoint") -> Adapter:
    """The adapter of a state dict, ours or upstream's; the dimensions are read off the weights.

    Raises:
        FeatureError: keys or shapes are not those of an AggregationNetwork.
    """
    if not isinstance(state, Mapping):
        raise FeatureError(f"{where}: not the state dict of an AggregationNetwork but a {type(state).__name__}")
    try:
        sources = len(state["mixing_weights"])
        dims = [state[f"bottleneck_layers.{i}.0.conv1.weight"].shape[1] for i in range(sources)]
        channels = state["bottleneck_layers.0.0.conv3.weight"].shape[0]
        adapter = Adapter(dims, channels)
        adapter.load_state_dict(dict(state), strict=True)
    except (KeyError, TypeError, IndexError, RuntimeError) as error:
        raise FeatureError(f"{where}: not the state dict of an AggregationNetwork ({error})") from None
    return adapter.eval()


def save_adapter(adapter: Adapter, path: str | Path, sources: Sequence[str] = (), recipe: str = "") -> None:
    """Write an adapter as a safetensors file; see :func:`encode_adapter`."""
    Path(path).write_bytes(encode_adapter(adapter, sources, recipe))


def load_adapter(path: str | Path, expected_dims: Sequence[int] | None = None) -> Adapter:
    """Read an adapter of ours (.safetensors) or a published checkpoint (.pth, loaded without executing anything in it).

    Args:
        path: local file.
        expected_dims: channels of the sources it is going to read, checked here instead of at the first image.

    Raises:
        FeatureError: it is for other sources (both are named), or not an adapter.
        SchemaError: the file cannot be read.
    """
    where = str(path)
    try:
        if where.endswith((".pth", ".pt")):
            adapter = adapter_from_state(torch.load(path, map_location="cpu", weights_only=True), where)
        else:
            adapter = decode_adapter(Path(path).read_bytes(), where)
    except OSError as error:
        raise SchemaError(f"cannot read {where}: {error.strerror or error}") from None
    except (EOFError, ValueError, RuntimeError) as error:
        raise SchemaError(f"{where}: not a checkpoint that can be loaded safely ({error})") from None
    except UnpicklingError:
        # torch's own text proposes weights_only=False, which would run whatever the file says.
        raise SchemaError(f"{where}: holds more than plain tensors, or is damaged; it is not loaded") from None
    if expected_dims is not None:
        check_dims(adapter.feature_dims, expected_dims, where)
    return adapter
