"""An adapter for other programs: a folder with safetensors and a loader that needs PyTorch and safetensors alone, and ONNX if wanted."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import training.network as network
from sc3d.errors import PreflightError, StoreError
from training.adapter import Adapter, encode_adapter
from training.network import unit_length

WEIGHTS = "adapter.safetensors"
LOADER = "hubconf.py"
ONNX = "adapter.onnx"
CARD = "README.md"
ONNX_INPUT, ONNX_OUTPUT = "features", "descriptors"
_OPSET = 18

# Ends the network's own file, so that the exported one is complete.
_ENTRY = '''

dependencies = ["torch", "safetensors"]


def adapter(path: str | None = None, device: str = "cpu") -> AggregationNetwork:
    """The exported adapter in evaluation mode; ``path``: other weights than those beside this file."""
    import pathlib

    from safetensors.torch import load_file

    state = load_file(path or str(pathlib.Path(__file__).with_name("{weights}")))
    model = AggregationNetwork(**made_like(state))
    model.load_state_dict(state, strict=True)
    return model.eval().to(device)
'''

_CARD = """# Adapter of sc3d

Turns raw, un-normalised image features into descriptors that know about geometry. {dims} channels in, {channels} out.
Sources, in this order: {sources}. Recipe of the features in the run that it was trained in: {recipe}.

```python
import torch
adapter = torch.hub.load("{folder}", "adapter", source="local")
descriptors = adapter.describe_maps([source_1, ...])    # each (B, channels, rows, columns) -> (B, {channels}, H, W), unit length a cell
```

The folder needs PyTorch and safetensors, not sc3d. `adapter(x)`, with all sources at one grid as (B, {total}, H, W), gives the descriptors
before they are normalised, as the AggregationNetwork of GeoAware-SC and DIY-SC does, whose keys the weights have.{onnx}
"""

_ONNX_CARD = """

`{onnx}`: input `{input}` (B, {total}, H, W) float32, all sources resized (bilinear) to one grid and concatenated; output `{output}`
(B, {channels}, H, W), unit length a cell."""


def export_adapter(
    adapter: Adapter, folder: str | Path, sources: Sequence[str] = (), recipe: str = "", onnx: bool = False
) -> list[Path]:
    """Write ``adapter.safetensors``, ``hubconf.py`` and a README, and ``adapter.onnx`` if asked for; files of an older export are replaced.

    Args:
        adapter: what is exported.
        folder: local; made if it is not there.
        sources, recipe: what the adapter was trained on, for its metadata and the README.
        onnx: needs the packages onnx and onnxscript.

    Returns:
        The files.

    Raises:
        PreflightError: ONNX is asked for and not installed.
        StoreError: the folder cannot be written.
    """
    folder = Path(folder)
    total = sum(adapter.feature_dims)
    words = {
        "dims": " + ".join(map(str, adapter.feature_dims)),
        "channels": adapter.descriptor_channels,
        "sources": ", ".join(sources) or "as it was trained",
        "recipe": recipe or "unknown",
        "folder": folder.name,
        "total": total,
    }
    words["onnx"] = _ONNX_CARD.format(onnx=ONNX, input=ONNX_INPUT, output=ONNX_OUTPUT, **words) if onnx else ""
    content: dict[str, bytes] = {
        WEIGHTS: encode_adapter(adapter, sources, recipe),
        LOADER: (inspect.getsource(network).rstrip() + "\n" + _ENTRY.format(weights=WEIGHTS)).encode(),
        CARD: _CARD.format(**words).encode(),
    }
    if onnx:
        content[ONNX] = encode_onnx(adapter)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in content.items():
            (folder / name).write_bytes(data)
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {error.strerror or error}") from None
    return [folder / name for name in content]


class _Described(nn.Module):
    """The adapter with its normalisation, on all sources at one grid."""

    def __init__(self, adapter: Adapter) -> None:
        super().__init__()
        self.adapter = adapter

    def forward(self, features: Tensor) -> Tensor:
        return unit_length(self.adapter(features))


def encode_onnx(adapter: Adapter) -> bytes:
    """The adapter as an ONNX model: ``features`` (B, D, H, W) at one grid -> ``descriptors`` (B, C, H, W) of unit length; any B, H, W.

    Raises:
        PreflightError: onnx and onnxscript are not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise PreflightError(f"ONNX needs the package {error.name}: pip install onnx onnxscript") from None
    # It tells of every package that it could also export, and that is not installed.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    example = torch.zeros(2, sum(adapter.feature_dims), 12, 16)
    dimensions = {0: torch.export.Dim("batch"), 2: torch.export.Dim("rows", min=2), 3: torch.export.Dim("columns", min=2)}
    program = torch.onnx.export(
        _Described(adapter.cpu()).eval(), (example,), dynamo=True, opset_version=_OPSET, input_names=[ONNX_INPUT],
        output_names=[ONNX_OUTPUT], dynamic_shapes=(dimensions,), verbose=False,
    )  # fmt: skip
    assert program is not None  # noqa: S101
    model = program.model_proto
    metadata = {"feature_dims": adapter.feature_dims, "channels": adapter.descriptor_channels}
    entry = model.metadata_props.add()
    entry.key, entry.value = "sc3d.adapter", json.dumps(metadata)
    return bytes(model.SerializeToString())
