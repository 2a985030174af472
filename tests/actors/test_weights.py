"""Weights: sources are found, fetched once a node and never half; files are read without running code; identities follow content."""

import argparse
import hashlib
import logging
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import boto3
import huggingface_hub
import pyarrow.fs as pafs
import pytest
import torch
from huggingface_hub import constants, errors
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from actors import bucket_weights
from actors.foundation.device import choose_device, choose_dtype
from actors.state_dicts import load_strictly, read_state
from actors.weights import fetch_weights, find_weights, weights_identity
from sc3d.config import ModelsConfig
from sc3d.errors import ConfigError, WeightsError

ROOT = Path(__file__).resolve().parents[2]
COMMIT, NEWER = "0123456789abcdef" * 2 + "01234567", "f" * 40
STATE = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.tensor([1, -1], dtype=torch.float16)}


def same(read: dict[str, torch.Tensor]) -> bool:
    return read.keys() == STATE.keys() and all(read[k].dtype == v.dtype and torch.equal(read[k], v) for k, v in STATE.items())


class Payload:
    """Creates a file when a pickle of it is loaded."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return (open, (str(self.victim), "w"))


# Local sources.


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


# Identities of local weights.


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


# Reading.


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


# Loading into a model.


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


# The hub, replaced where its client asks the network, or offline on a real cache folder.


class Answer:
    """What the client's HTTP library hands to its errors."""

    def __init__(self, status: int) -> None:
        self.status_code, self.headers, self.request, self.url = status, {}, None, "https://huggingface.co"


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder of the hub's client, which is offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def add_snapshot(cache: Path, repository: str, commit: str, revision: str | None, names: list[str]) -> Path:
    """What the client leaves on disk after a download."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    for name in names:
        blob = folder / "blobs" / hashlib.sha256(name.encode()).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(name.encode())
        link = folder / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    if revision:
        (folder / "refs" / revision).parent.mkdir(parents=True, exist_ok=True)
        (folder / "refs" / revision).write_text(commit)
    return folder / "snapshots" / commit


def test_the_hubs_cache_is_used_without_a_network(hub_cache):
    names = ["config.json", "unet/model.safetensors"]
    snapshot = add_snapshot(hub_cache, "owner/name", COMMIT, "main", names)
    for source in ("owner/name", "owner/name@main", f"owner/name@{COMMIT}"):
        for files in ((), ("config.json",), ("unet/*.safetensors", "*.json")):
            assert fetch_weights(source, files) == snapshot
            assert find_weights(source, files) == snapshot
        assert weights_identity(source) == f"owner/name@{COMMIT}"
    assert find_weights("owner/name", ["other.json"]) is None
    with pytest.raises(WeightsError, match=r"owner/name has no other\.json .*right model and revision"):
        fetch_weights("owner/name", ["other.json"])


def test_what_is_not_in_the_cache_says_how_to_get_it_there(hub_cache):
    add_snapshot(hub_cache, "owner/name", COMMIT, "main", ["config.json"])
    for source in ("owner/other", "owner/name@v2", f"owner/name@{NEWER}"):
        assert find_weights(source) is None
        with pytest.raises(WeightsError, match=r"not complete in the hub's cache .*hf download owner/.* --revision .*local path"):
            fetch_weights(source)
    with pytest.raises(WeightsError, match=r"owner/name@v2 .*offline mode is enabled"):
        weights_identity("owner/name@v2")


def test_a_branch_stays_the_commit_that_was_fetched(hub_cache, monkeypatch):
    asked = []

    def download(repository, revision, allow_patterns, local_files_only=False):
        asked.append((repository, revision, allow_patterns))
        commit = revision if len(revision) == 40 else COMMIT
        return str(add_snapshot(hub_cache, repository, commit, revision, ["a.pt"]) if revision != commit else hub_cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub, "model_info", lambda *_, **__: types.SimpleNamespace(sha=COMMIT))
    assert weights_identity("owner/name@v1") == f"owner/name@{COMMIT}"
    fetch_weights("owner/name@v1", ["a.pt"])
    monkeypatch.setattr(huggingface_hub, "model_info", lambda *_, **__: types.SimpleNamespace(sha=NEWER))
    assert weights_identity("owner/name@v1") == f"owner/name@{COMMIT}"
    fetch_weights("owner/name@v1")
    assert asked == [("owner/name", "v1", ["a.pt"]), ("owner/name", COMMIT, None)]


def test_a_damaged_reference_in_the_cache_is_passed_over(hub_cache):
    add_snapshot(hub_cache, "owner/name", "not a commit", "main", ["a.pt"])
    with pytest.raises(WeightsError, match="hub's cache"):
        weights_identity("owner/name")


HUB_ERRORS = [
    (
        lambda: errors.GatedRepoError("403", response=Answer(403)),
        r"gated .*accept the licence at .*owner/name .*hf auth login.*local path",
    ),
    (
        lambda: errors.RepositoryNotFoundError("404", response=Answer(404)),
        r"no repository owner/name .*private.*no such local path",
    ),
    (lambda: errors.RevisionNotFoundError("404", response=Answer(404)), r"no revision 'v1': see .*owner/name/commits"),
    (lambda: errors.HfHubHTTPError("403 Forbidden", response=Answer(403)), r"refuses owner/name .*hf auth login"),
    (
        lambda: errors.HfHubHTTPError("500 Server\nmore", response=Answer(500)),
        r"cannot fetch owner/name@v1 .*500 Server; try again",
    ),
    (
        lambda: errors.LocalEntryNotFoundError("no route\nmore"),
        r"cannot be asked \(no route\).*hf download owner/name --revision v1",
    ),
    (lambda: errors.OfflineModeIsEnabled("offline"), r"cannot be asked \(offline\)"),
    (lambda: ConnectionRefusedError("refused"), r"cannot be asked \(refused\)"),
    (lambda: OSError(28, "No space left on device"), r"No space left on device"),
]


@pytest.mark.parametrize(("error", "message"), HUB_ERRORS, ids=[message[:20] for _, message in HUB_ERRORS])
def test_errors_of_the_hub_say_what_to_do(hub_cache, monkeypatch, error, message):
    def fail(*_, **__):
        raise error()

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    monkeypatch.setattr(huggingface_hub, "model_info", fail)
    for ask in (fetch_weights, weights_identity):
        with pytest.raises(WeightsError, match=message):
            ask("owner/name@v1")


def test_names_that_the_hub_cannot_have_are_refused(hub_cache):
    for ask, source in ((fetch_weights, "owner/two--dashes"), (find_weights, f"owner/two--dashes@{COMMIT}")):
        with pytest.raises(WeightsError, match=r"owner/two--dashes is neither a hub id .* nor a local path"):
            ask(source)


def test_without_the_hubs_client_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for ask in (fetch_weights, find_weights, weights_identity):
        with pytest.raises(WeightsError, match=r"huggingface_hub .*pip install .*local path"):
            ask("owner/name")


# S3.


@pytest.fixture
def s3(s3_server, bucket):
    return boto3.client("s3", endpoint_url=s3_server), bucket.removeprefix("s3://")


def put(s3, files: dict[str, bytes]) -> str:
    client, bucket = s3
    for name, content in files.items():
        client.put_object(Bucket=bucket, Key=f"models/one/{name}", Body=content)
    return f"s3://{bucket}/models/one"


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def folders(cache: Path) -> list[Path]:
    return [p for p in cache.iterdir() if p.is_dir()]


def test_a_prefix_is_copied_once_and_whole(s3, tmp_path, caplog):
    files = {"a.safetensors": b"a" * 1000, "sub/b.json": b"{}", "empty": b""}
    uri, cache = put(s3, files), tmp_path / "cache"
    assert find_weights(uri, cache=str(cache)) is None
    with caplog.at_level(logging.INFO):
        folder = fetch_weights(uri, cache=str(cache))
        assert fetch_weights(f"{uri}/", cache=str(cache)) == folder == find_weights(uri, cache=str(cache))
    assert contents(folder) == files
    assert folders(cache) == [folder]
    assert caplog.text.count("fetching") == 1


def test_only_the_wanted_files_are_copied(s3, tmp_path):
    uri = put(s3, {"a.safetensors": b"a", "sub/b.json": b"{}", "large.ckpt": b"x"})
    assert contents(fetch_weights(uri, ["a.safetensors", "sub/*"], str(tmp_path))) == {"a.safetensors": b"a", "sub/b.json": b"{}"}
    assert contents(fetch_weights(uri, ["large.ckpt"], str(tmp_path))) == {"large.ckpt": b"x"}
    with pytest.raises(WeightsError, match=r"one has no c\.pt"):
        fetch_weights(uri, ["a.safetensors", "c.pt"], str(tmp_path))


def test_a_single_object_is_a_file(s3, tmp_path):
    uri = put(s3, {"model.ckpt": b"weights"})
    path = fetch_weights(f"{uri}/model.ckpt", ["model.ckpt"], str(tmp_path))
    assert (path.name, path.read_bytes()) == ("model.ckpt", b"weights")
    assert find_weights(f"{uri}/model.ckpt", cache=str(tmp_path)) == path


def test_replaced_weights_have_another_identity_and_are_fetched_again(s3, tmp_path):
    uri = put(s3, {"a.pt": b"first"})
    old, folder = weights_identity(uri), fetch_weights(uri, cache=str(tmp_path))
    assert weights_identity(uri) == old
    put(s3, {"a.pt": b"second"})
    assert weights_identity(uri) != old
    assert contents(fetch_weights(uri, cache=str(tmp_path))) == {"a.pt": b"second"}
    assert contents(folder) == {"a.pt": b"first"}


@pytest.mark.parametrize("name", ["s3://{bucket}/nothing", "s3://no-such-bucket-anywhere/x"])
def test_missing_prefixes_and_buckets_are_weights_errors(s3, tmp_path, name):
    uri = name.format(bucket=s3[1])
    for ask in (fetch_weights, weights_identity):
        with pytest.raises(WeightsError, match=uri):
            ask(uri)


def test_credentials_in_the_uri_are_refused_and_not_repeated():
    with pytest.raises(WeightsError, match="credentials do not belong") as error:
        fetch_weights("s3://key:secret@bucket/x")
    assert "secret" not in str(error.value)


def test_a_disk_that_is_too_small_is_known_before_the_copy(s3, tmp_path, monkeypatch):
    uri = put(s3, {"a.pt": b"x" * 100})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=99))
    with pytest.raises(WeightsError, match=r"GB left.*models\.cache"):
        fetch_weights(uri, cache=str(tmp_path))
    assert folders(tmp_path) == []


def test_a_cache_that_cannot_be_written_is_a_weights_error(s3, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"cannot copy .*models\.cache"):
        fetch_weights(put(s3, {"a.pt": b"x"}), cache=str(tmp_path / "file"))


def test_names_that_lead_out_of_the_cache_are_refused(tmp_path):
    progress = bucket_weights._Progress("s3://bucket", 1)
    with pytest.raises(WeightsError, match="outside of the cache"):
        bucket_weights._copy_object(pafs.LocalFileSystem(), ("../x", __file__, 1, 0), tmp_path / "folder", progress)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_change_while_they_are_copied_do_not_count(s3, tmp_path, monkeypatch):
    uri = put(s3, {"a.pt": b"one", "b.pt": b"one"})
    copy = bucket_weights._copy_object

    def copy_and_change(filesystem, entry, folder, progress):
        copy(filesystem, entry, folder, progress)
        if entry[0] == "b.pt":
            put(s3, {"b.pt": b"two and more"})

    monkeypatch.setattr(bucket_weights, "_copy_object", copy_and_change)
    with pytest.raises(WeightsError, match="changed while it was read"):
        fetch_weights(uri, cache=str(tmp_path))
    assert folders(tmp_path) == []


FETCH = """
import logging, sys, time
from pathlib import Path
from actors import bucket_weights  # without actors.weights, which imports torch for seconds
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
uri, cache, me, others = sys.argv[1:5]
{extra}
Path(cache, me).touch()
while not Path(cache, others).exists():
    time.sleep(0.01)
print("got", bucket_weights.fetch(uri, (), Path(cache)))
"""


def start(uri: str, cache: Path, me: str, other: str, extra: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FETCH.format(extra=extra), uri, str(cache), me, other]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_of_a_node_fetch_once(s3, tmp_path):
    files = {f"{i}.bin": os.urandom(1 << 20) for i in range(3)}
    uri = put(s3, files)
    # Whoever copies goes on when the other has met the lock, or would have.
    meet = """
class Meet(logging.Handler):
    def emit(self, record):
        waiting, deadline = Path(cache, "waiting"), time.monotonic() + 10
        if "waiting" in record.getMessage():
            waiting.touch()
        while not waiting.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
bucket_weights.logger.addHandler(Meet())
"""
    processes = [start(uri, tmp_path, "one", "two", meet), start(uri, tmp_path, "two", "one", meet)]
    outputs = [p.communicate(timeout=120) for p in processes]
    assert [p.returncode for p in processes] == [0, 0], outputs
    said = "".join(out for out, _ in outputs)
    assert said.count(f"fetching {uri}") == 1
    assert said.count("waiting for another process") == 1
    (folder,) = folders(tmp_path)
    assert said.count(f"got {folder}\n") == 2
    assert contents(folder) == files


def test_a_killed_copy_does_not_count_and_blocks_nobody(s3, tmp_path, monkeypatch):
    files = {"a.bin": os.urandom(1 << 20)}
    uri = put(s3, files)
    die = """
import os, signal
bucket_weights._CHUNK = 1 << 16
add = bucket_weights._Progress.add
def add_and_die(self, n):
    add(self, n)
    if self._done > 1 << 19:
        os.kill(os.getpid(), signal.SIGKILL)
bucket_weights._Progress.add = add_and_die
"""
    process = start(uri, tmp_path, "one", "one", die)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    (partial,) = folders(tmp_path)
    assert 0 < len(contents(partial)["a.bin"]) < 1 << 20
    assert find_weights(uri, cache=str(tmp_path)) is None
    # The disk has no room for both.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=0 if partial.exists() else 1 << 20))
    folder = fetch_weights(uri, cache=str(tmp_path))
    assert contents(folder) == files
    assert folders(tmp_path) == [folder]


# Device and precision.


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
