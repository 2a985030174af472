"""Weights that lie on this machine: sources are found, what is missing is said where, and identities follow content."""

import hashlib
import os
import shutil
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from actors.state_dicts import read_state
from actors.weights import fetch_weights, find_weights, weights_identity
from sc3d.errors import WeightsError

STATE = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.tensor([1, -1], dtype=torch.float16)}


def test_local_sources_are_themselves(tmp_path, monkeypatch):
    save_file(STATE, tmp_path / "a.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in (
        f"{tmp_path}/a.safetensors",
        f"file://{tmp_path}/a.safetensors",
        "./a.safetensors",
        "a.safetensors",
        "~/a.safetensors",
    ):
        assert fetch_weights(source, ["whatever"]) == tmp_path / "a.safetensors"
        assert find_weights(source) == tmp_path / "a.safetensors"
    assert fetch_weights(str(tmp_path), ["a.safetensors"]) == fetch_weights(".", ["*.safetensors"]) == tmp_path


def test_an_existing_folder_goes_before_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("facebook/sam3").mkdir(parents=True)
    assert fetch_weights("facebook/sam3") == tmp_path / "facebook/sam3"


def test_files_in_linked_folders_count_and_circles_end(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    save_file(STATE, tmp_path / "elsewhere/x.safetensors")
    shutil.copytree(tmp_path / "elsewhere", tmp_path / "plain/unet")
    shutil.copytree(tmp_path / "elsewhere", tmp_path / "plain/vae")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/unet").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "linked/vae").symlink_to(tmp_path / "elsewhere")
    linked, plain, cache = (str(tmp_path / name) for name in ("linked", "plain", "cache"))
    assert fetch_weights(linked, ["unet/*.safetensors", "vae/x.safetensors"]) == Path(linked)
    assert weights_identity(linked, cache) == weights_identity(plain, cache)
    (tmp_path / "plain/circle").symlink_to(tmp_path / "plain")
    assert weights_identity(linked, cache) == weights_identity(plain, cache)
    (tmp_path / "elsewhere/circle").symlink_to(tmp_path / "linked")
    assert fetch_weights(linked, ["unet/*.safetensors"]) == Path(linked)


@pytest.mark.parametrize(
    "source", ["/no/such/model.ckpt", "weights/dino/model.ckpt", "model.ckpt", "./model", "~nobody-of-that-name/x"]
)
def test_missing_local_files_say_where_they_were_looked_for(source):
    assert find_weights(source) is None
    for ask in (fetch_weights, weights_identity):
        with pytest.raises(WeightsError, match=rf"no such file or folder on {socket.gethostname()} .*every node"):
            ask(source)


@pytest.mark.parametrize("source", ["gs://bucket/x", "https://example.org/x.pt", "ftp://x", "", "  "])
def test_sources_of_other_kinds_are_refused(source):
    for ask in (fetch_weights, find_weights, weights_identity):
        with pytest.raises(WeightsError, match="hub id"):
            ask(source)


@pytest.mark.parametrize("source", ["/dev/zero", "/dev/null"])
def test_devices_are_not_weights(source):
    for ask in (fetch_weights, weights_identity, lambda path: read_state(Path(path))):
        with pytest.raises(WeightsError, match=source):
            ask(source)


def test_folder_without_the_files_names_them(tmp_path):
    (tmp_path / "here.bin").write_bytes(b"x")
    assert find_weights(str(tmp_path), ["here.bin", "there.bin"]) is None
    with pytest.raises(WeightsError, match=r"has no there.bin, \*.ckpt .*right model"):
        fetch_weights(str(tmp_path), ["here.bin", "there.bin", "*.ckpt"])


def test_identity_follows_content_and_names_alone(tmp_path):
    cache = str(tmp_path / "cache")
    for folder in ("one", "two"):
        (tmp_path / folder / "sub").mkdir(parents=True)
        (tmp_path / folder / "sub/a.bin").write_bytes(b"a")
        (tmp_path / folder / "b.bin").write_bytes(b"b")
        (tmp_path / folder / ".git").write_bytes(folder.encode())
    one, two = tmp_path / "one", tmp_path / "two"

    def identity(path: Path, files: tuple[str, ...] = ()) -> str:
        return weights_identity(str(path), cache, files)

    assert identity(one / "b.bin") == f"sha256:{hashlib.sha256(b'b').hexdigest()}"
    assert identity(one) == identity(two)
    assert identity(one, ("b.bin",)) == identity(two, ("b.bin",)) != identity(one)
    (two / "sub/a.bin").rename(two / "sub/c.bin")
    assert identity(one) != identity(two)
    assert identity(one, ("b.bin",)) == identity(two, ("b.bin",))


def test_changed_content_of_the_same_size_and_time_is_noticed(tmp_path):
    file, cache = tmp_path / "a.bin", str(tmp_path / "cache")
    file.write_bytes(b"old")
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    before = weights_identity(str(file), cache)
    file.write_bytes(b"new")
    os.utime(file, ns=times)
    assert weights_identity(str(file), cache) == f"sha256:{hashlib.sha256(b'new').hexdigest()}" != before


def test_large_files_are_hashed_once(tmp_path, monkeypatch):
    file, cache = tmp_path / "a.bin", tmp_path / "cache"
    file.write_bytes(b"x" * 1000)
    first = weights_identity(str(file), str(cache))
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", lambda *_, **__: pytest.fail("the file was read again"))
        assert weights_identity(str(file), str(cache)) == first
    (note,) = (cache / "digests").iterdir()
    note.write_text("cut sho")
    assert weights_identity(str(file), str(cache)) == first


def test_a_cache_that_cannot_be_written_does_not_matter_to_identities(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"x")
    (tmp_path / "file").write_bytes(b"")
    assert weights_identity(str(tmp_path / "a.bin"), str(tmp_path / "file")) == f"sha256:{hashlib.sha256(b'x').hexdigest()}"
