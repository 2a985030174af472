"""Where a model runs and in what precision."""

import pytest
import torch

from actors.foundation.device import choose_device, choose_dtype
from sc3d.config import ModelsConfig
from sc3d.errors import ConfigError


def test_a_cpu_runs_in_single_precision_unless_told_otherwise():
    device = choose_device(ModelsConfig(device="cpu"))
    assert device == torch.device("cpu")
    assert choose_dtype(ModelsConfig(), device) == torch.float32
    assert choose_dtype(ModelsConfig(dtype="bfloat16"), device) == torch.bfloat16
    assert choose_dtype(ModelsConfig(dtype="float16"), device) == torch.float16


def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(ModelsConfig(device="auto")) == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"models\.device=cuda, but .*models\.device=auto"):
        choose_device(ModelsConfig(device="cuda"))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES hides every GPU"):
        choose_device(ModelsConfig(device="cuda"))


@pytest.mark.gpu
def test_a_gpu_runs_in_half_precision():
    device = choose_device(ModelsConfig())
    assert device.type == "cuda"
    assert choose_dtype(ModelsConfig(), device) in (torch.bfloat16, torch.float16)
    assert choose_dtype(ModelsConfig(dtype="float32"), device) == torch.float32
