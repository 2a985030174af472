"""The adapter: what turns frozen image features into descriptors that know about geometry.

The network itself is in :mod:`training.network`; here is what reads described images, and the files. The published checkpoints of
GeoAware-SC and DIY-SC load strictly.

To use a trained or published adapter on any features, raw and un-normalised, each source at its own grid::

    adapter = load_adapter("adapter.safetensors")
    source, target = adapter.describe([s3, s4, s5, dino]), adapter.describe(other_features)    # (C, 60, 60) each, unit length per cell
    similarity = source.reshape(len(source), -1).T @ target.reshape(len(target), -1)           # (3600, 3600) cosines

Shape letters: B images, D_s channels of source s on its h_s x w_s grid, D their sum, C output channels, H = W cells of the working grid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor
from typing_extensions import NotRequired, TypedDict

from sc3d.arrays import as_numpy
from sc3d.errors import FeatureError, SchemaError
from sc3d.features import Features
from sc3d.parsed import Whole, parsed, parsed_json
from sc3d.plain_text import of_json
from training.network import AggregationNetwork, KeptFeatures, made_like, resized

ADAPTER_VERSION = 1
_GROUP_ORDER = ("sd", "dino")
_METADATA_KEY = "sc3d.adapter"


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


def kept_features(sources: Sequence[str], weights: Mapping[str, float], share: float) -> KeptFeatures | None:
    """What keeps a share of the features in the descriptors, fused with the weights of their slots; ``None`` if the share is 0.

    Args:
        sources: names of the adapter's sources, see :func:`source_names`.
        weights: of the slots ``sd`` and ``dino``; 1 for those that are not named.
    """
    slots = [name.split(".")[0] for name in sources]
    present = list(dict.fromkeys(slots))
    return KeptFeatures([present.index(s) for s in slots], [weights.get(s, 1.0) for s in present], share) if share else None


def native_input(features: Features) -> list[Tensor]:
    """Raw, un-normalised sources of one image at their own grids: a (1, D_s, h_s, w_s) float32 tensor each, on the CPU."""
    return [_as_input(features.sources[name]) for name in source_names(features)]


def _as_input(source: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(source))[None].float()


def adapter_input(features: Features) -> Tensor:
    """Raw, un-normalised sources of one image, resized to the working grid (bilinear, align_corners=False) and concatenated.

    Returns:
        (1, D, H, W) float32 on the CPU: for the paper's features cat[s3, up(s4), up(s5), dino].
    """
    side = features.letterbox.side
    return torch.cat([resized(part, (side, side)) for part in native_input(features)], dim=1)


class Adapter(AggregationNetwork):
    """The aggregation network with what sc3d knows about features: 628,995 parameters for [768] -> 768, 5,150,214 for four sources.

    Args:
        feature_dims: channels of each source, in input order.
        channels: channels C that are learned.
        kept: see :func:`kept_features`.

    Raises:
        FeatureError: no source, or a size below one; later, sources that do not fit.
    """

    input_error = FeatureError

    def describe(self, features: Features | np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """Descriptors (C, H, W) float32 of one image, unit length at each cell, computed on the adapter's device.

        Args:
            features: a described image, or the raw, un-normalised sources (D_s, h_s, w_s) in the adapter's order, each at its own grid. The
                working grid is then that of the finest source.

        Raises:
            FeatureError: the image has other sources than the adapter was made for.
        """
        if isinstance(features, Features):
            check_dims(self.feature_dims, feature_dims(features), features.image_id)
            side = features.letterbox.side
            maps = self.describe_maps(native_input(features), (side, side))
        else:
            arrays = [as_numpy(one) for one in ([features] if getattr(features, "ndim", 0) == 3 else features)]
            if any(np.ndim(one) != 3 for one in arrays):
                raise FeatureError(f"sources must be (channels, rows, columns), got {[np.shape(one) for one in arrays]}")
            check_dims(self.feature_dims, [len(one) for one in arrays], "these features")
            maps = self.describe_maps([_as_input(one) for one in arrays])
        result: np.ndarray = maps[0].float().cpu().numpy()
        return result


def check_dims(expected: Sequence[int], found: Sequence[int], where: str) -> None:
    """Raise :class:`FeatureError`, naming both, unless an adapter for ``expected`` source channels can read ``found``."""
    if list(expected) != list(found):
        raise FeatureError(
            f"{where}: the adapter is for sources of {list(expected)} channels, these have {list(found)}; "
            "describe the images with the models the adapter was trained on, or train a new one"
        )


def encode_adapter(
    adapter: Adapter, sources: Sequence[str] = (), recipe: str = "", scores: Mapping[str, float] | None = None
) -> bytes:
    """Serialise as safetensors; dimensions, names of the sources and the recipe of the features stand in the metadata.

    ``scores``: what the adapter was chosen by (``step``, ``pck``, ``loss``), if it was.
    """
    metadata = {
        "schema_version": ADAPTER_VERSION,
        "feature_dims": adapter.feature_dims,
        "channels": adapter.channels,
        "sources": list(sources),
        "recipe": recipe,
        **({"scores": dict(scores)} if scores else {}),
    }
    state = {name: value.detach().cpu().contiguous() for name, value in adapter.state_dict().items()}
    # One metadata entry: safetensors writes several in a random order, and equal adapters shall be equal bytes.
    return save_safetensors(state, {_METADATA_KEY: json.dumps(metadata)})


def adapter_metadata(data: bytes, where: str = "adapter") -> dict[str, Any]:
    """``feature_dims``, ``channels``, ``sources``, ``recipe``, and ``scores`` where it has any, of an encoded adapter.

    Raises:
        SchemaError: not an adapter of sc3d, damaged, or of another version.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        entries = of_json(data[8 : 8 + length]).get("__metadata__", {})
    except (ValueError, AttributeError):
        raise SchemaError(f"{where}: not a readable safetensors file; train again or fetch it again") from None
    if not isinstance(entries, dict) or _METADATA_KEY not in entries:
        raise SchemaError(f"{where}: not an adapter of sc3d")
    metadata = parsed_json(dict[str, Any], str(entries[_METADATA_KEY]).encode(), f"{where}: its metadata")
    version = metadata.pop("schema_version", None)
    if version != ADAPTER_VERSION:
        raise SchemaError(f"{where}: adapter format {version}, this sc3d reads {ADAPTER_VERSION}; upgrade sc3d or train again")
    return dict(parsed(_AdapterNote, metadata, f"{where}: its metadata"))


class _AdapterNote(TypedDict):
    feature_dims: list[Whole]
    channels: Whole
    sources: list[str]
    recipe: str
    scores: NotRequired[dict[str, float]]


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
        adapter = Adapter(**made_like(state))
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
