"""An exported adapter gives the descriptors of the one in sc3d, without sc3d: by torch.hub, and as ONNX."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sc3d.errors import PreflightError, StoreError
from training.adapter import Adapter, kept_features, load_adapter
from training.export import encode_onnx, export_adapter
from training.network import KeptFeatures

# The package sc3d and its neighbours cannot be imported here, as where they are not installed.
SCRIPT = """
import json, sys
for name in ("sc3d", "training", "pipelines", "actors", "cluster", "ray"):
    sys.modules[name] = None
import torch
adapters = [torch.hub.load(folder, "adapter", source="local") for folder in sys.argv[2:]]
x = torch.load(sys.argv[1])
maps = [adapter.describe_maps(x[:len(adapter.feature_dims)]) for adapter in adapters]
print(json.dumps([m.tolist() for m in maps]))
"""


def _adapter(dims: list[int], channels: int, seed: int = 0, kept: KeptFeatures | None = None) -> Adapter:
    torch.manual_seed(seed)
    adapter = Adapter(dims, channels, kept).eval()
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return adapter


def test_the_exported_folders_work_without_sc3d(tmp_path: Path) -> None:
    adapters = [
        _adapter([5, 6], 8),
        _adapter([5], 4, seed=1),
        _adapter([5, 6], 4, 2, kept_features(["sd.a", "dino"], {"sd": 2.0}, 0.4)),
    ]
    x = [torch.randn(2, 5, 3, 3), torch.randn(2, 6, 6, 6)]
    torch.save(x, tmp_path / "x.pt")
    for name, adapter in zip("abc", adapters, strict=True):
        names = [path.name for path in export_adapter(adapter, tmp_path / name)]
        assert names == ["adapter.safetensors", "hubconf.py", "README.md"]
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "x.pt"), *(str(tmp_path / name) for name in "abc")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""}, check=True)
    described = [np.array(values) for values in json.loads(done.stdout)]
    for adapter, found in zip(adapters, described, strict=True):
        np.testing.assert_allclose(found, adapter.describe_maps(x[: len(adapter.feature_dims)]).numpy(), atol=1e-6)
    assert torch.equal(load_adapter(tmp_path / "a" / "adapter.safetensors").mixing_weights, adapters[0].mixing_weights)


@pytest.mark.slow
@pytest.mark.parametrize(("dims", "channels", "share"), [([6, 4], 8, 0.0), ([768], 768, 0.0), ([6, 4], 8, 0.5)])
def test_onnx_agrees_at_any_size(dims: list[int], channels: int, share: float) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    adapter = _adapter(dims, channels, kept=kept_features(["sd.a", "dino"], {}, share))
    session = onnxruntime.InferenceSession(encode_onnx(adapter))
    for shape in ((1, 5, 7), (3, 12, 12)):
        x = torch.randn(shape[0], sum(dims), *shape[1:])
        found = session.run(None, {"features": x.numpy()})[0]
        np.testing.assert_allclose(found, adapter.describe_maps(x).numpy(), atol=1e-4)


def test_onnx_that_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(PreflightError, match="pip install onnx"):
        export_adapter(_adapter([6], 8), tmp_path / "out", onnx=True)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file"):
        export_adapter(_adapter([6], 8), tmp_path / "file")
