"""Weights on the hub, whose client is replaced where it asks the network, or is offline on a real cache folder."""

import hashlib
import sys
import types
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from actors.weights import fetch_weights, find_weights, weights_identity
from sc3d.errors import WeightsError

COMMIT, NEWER = "0123456789abcdef" * 2 + "01234567", "f" * 40


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
