"""Weights are read without running code, cut and foreign files are named, and a model takes all of its weights or none."""

import argparse
import os
import pickle
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from actors.state_dicts import load_strictly, read_state
from sc3d.errors import WeightsError

STATE = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.tensor([1, -1], dtype=torch.float16)}


def same(read: dict[str, torch.Tensor]) -> bool:
    return read.keys() == STATE.keys() and all(read[k].dtype == v.dtype and torch.equal(read[k], v) for k, v in STATE.items())


class Payload:
    """Creates a file when a pickle of it is loaded."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return (open, (str(self.victim), "w"))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".ckpt", ".bin"])
def test_tensors_are_read_bit_for_bit(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    save_file(STATE, path) if suffix == ".safetensors" else torch.save(STATE, path)
    assert same(read_state(path))


def test_the_old_format_of_torch_is_read(tmp_path):
    torch.save(STATE, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert same(read_state(tmp_path / "old.pt"))


def test_parameters_come_without_gradients(tmp_path):
    torch.save({"w": torch.nn.Parameter(torch.ones(3))}, tmp_path / "p.pt")
    assert not read_state(tmp_path / "p.pt")["w"].requires_grad


def test_lightning_is_unwrapped_and_its_options_are_passed_over(tmp_path, monkeypatch):
    module = types.ModuleType("yacs.config")
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", module)

    class CfgNode(dict):
        __module__, __qualname__ = "yacs.config", "CfgNode"

        def __init__(self, values):
            super().__init__(values)
            self.frozen = True

    module.CfgNode = CfgNode
    options = {"cfg": CfgNode({"lr": 0.1, "nested": CfgNode({"x": [1]})}), "args": argparse.Namespace(out=Path("x"))}
    torch.save({"state_dict": STATE, "epoch": 3, "hyper_parameters": options}, tmp_path / "l.ckpt")
    monkeypatch.delitem(sys.modules, "yacs.config")
    assert same(read_state(tmp_path / "l.ckpt"))
    with pytest.raises(pickle.UnpicklingError, match=r"Namespace|CfgNode"):
        torch.load(tmp_path / "l.ckpt", weights_only=True)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("key", ["layer.weight", "state_dict"])
def test_a_poisoned_pickle_is_refused_and_not_executed(tmp_path, zipped, key):
    victim = tmp_path / "victim"
    torch.save({**STATE, key: Payload(victim)}, tmp_path / "evil.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"evil.pt holds more than tensors .*open.*refused.*safetensors"):
        read_state(tmp_path / "evil.pt")
    assert not victim.exists()
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert victim.exists(), "the pickle was harmless, so the test proves nothing"


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_poisoned_plain_pickle_is_not_executed(tmp_path):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "evil.bin").write_bytes(pickle.dumps(Payload(tmp_path / "victim"), protocol))
        with pytest.raises(WeightsError, match=r"evil.bin"):
            read_state(tmp_path / "evil.bin")
    assert not (tmp_path / "victim").exists()


def test_stand_ins_do_not_run_what_they_stand_for(tmp_path):
    class Link:
        def __reduce__(self):
            return (Path("x").__class__, (str(tmp_path),))

    torch.save({**STATE, "path": Link()}, tmp_path / "p.pt")
    assert same(read_state(tmp_path / "p.pt"))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".old.pt"])
@given(keep=st.floats(0, 1, exclude_max=True))
def test_truncated_files_are_refused_with_their_name(tmp_path_factory, suffix, keep):
    folder = tmp_path_factory.mktemp("cut")
    path = folder / f"w{suffix}"
    save_file(STATE, path) if suffix == ".safetensors" else torch.save(STATE, path, _use_new_zipfile_serialization=suffix == ".pt")
    os.truncate(path, int(keep * path.stat().st_size))
    with pytest.raises(WeightsError, match=rf"{path.name} .*fetch it again"):
        read_state(path)


FOREIGN = {
    "empty": (b"", "is empty"),
    "page": (b"\n<!DOCTYPE html><html>Sign in</html>", "web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
    "text": (b"hello world, this is no model" * 10, "damaged|safetensors file"),
    "image": (b"\x89PNG\r\n\x1a\n" + bytes(200), "damaged|safetensors file"),
}


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files_say_what_they_are(tmp_path, kind, suffix):
    content, message = FOREIGN[kind]
    (tmp_path / f"w{suffix}").write_bytes(content)
    with pytest.raises(WeightsError, match=rf"w{suffix} .*({message})"):
        read_state(tmp_path / f"w{suffix}")


@given(st.binary(max_size=300))
def test_random_bytes_are_a_weights_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("random") / "w.bin"
    for head in (b"", b"\x80\x02", b"PK\x03\x04"):
        path.write_bytes(head + content)
        with pytest.raises(WeightsError):
            read_state(path)


def test_other_zip_files_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("readme.txt", "not a model")
    with pytest.raises(WeightsError, match=r"w\.pt"):
        read_state(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [(torch.ones(3), "Tensor, not tensors"), ({"model": STATE, "epoch": 1}, "only epoch, model"), ({}, "no tensors")],
)
def test_files_without_a_state_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=message):
        read_state(tmp_path / "w.pt")


def test_missing_files_folders_and_other_suffixes_are_refused(tmp_path):
    (tmp_path / "w.onnx").write_bytes(b"x")
    for name, message in (("absent.pt", "no weights at"), (".", "is a folder"), ("w.onnx", "ends in none of")):
        with pytest.raises(WeightsError, match=message):
            read_state(tmp_path / name)


def model() -> torch.nn.Module:
    return torch.nn.ModuleDict({"layer": torch.nn.Linear(3, 2)})


def test_strict_loading_sets_every_weight_in_the_models_precision():
    module = model()
    load_strictly(module, STATE)
    assert torch.equal(module["layer"].weight, STATE["layer.weight"])
    assert module["layer"].bias.dtype == torch.float32
    assert torch.equal(module["layer"].bias, STATE["layer.bias"].float())


def test_models_on_the_meta_device_take_the_tensors():
    with torch.device("meta"):
        module = model()
    load_strictly(module, STATE)
    assert torch.equal(module["layer"].weight, STATE["layer.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer.bias": None}, r"Linear|ModuleDict \(1 missing: layer.bias\)"),
        ({"head.weight": torch.ones(1)}, r"1 unknown: head.weight"),
        ({"layer.weight": torch.ones(3, 2)}, r"1 of another shape: layer.weight is \(3, 2\) and should be \(2, 3\)"),
        ({f"x{i}": torch.ones(1) for i in range(9)}, r"9 unknown: x0, x1, x2, x3, x4 and 4 more"),
    ],
)
def test_weights_of_another_model_are_refused_and_change_nothing(change, message):
    module = model()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    state = {k: v for k, v in {**STATE, **change}.items() if v is not None}
    with pytest.raises(WeightsError, match=message):
        load_strictly(module, state)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_only_listed_keys_are_left_out():
    state = {**STATE, "head.weight": torch.ones(1), "scale": torch.ones(())}
    load_strictly(model(), state, ignore=["head.*", "scale"])
    with pytest.raises(WeightsError, match="1 unknown: scale"):
        load_strictly(model(), state, ignore=["head.*", "layer.*"])
    with pytest.raises(WeightsError, match=r"1 missing: layer\.bias"):
        load_strictly(model(), {"layer.weight": STATE["layer.weight"]}, ignore=["layer.*"])
