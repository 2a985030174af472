"""Photos and masks in a bucket or on the web: each failure is of the photo alone, but for a store that is away."""

from __future__ import annotations

import dataclasses
import io
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from PIL import Image
from web_server import WebServer, wait_until

from actors.base import run_actors
from actors.offline.load import LoadImage
from sc3d.config import DatasetConfig, DownloadConfig, RunConfig
from sc3d.contents import hash_contents
from sc3d.errors import InputError, StoreDeniedError, StoreUnavailableError, concerns_the_run
from sc3d.images import load_image
from sc3d.mask_files import load_mask
from sc3d.remote_images import read_object, read_url
from sc3d.store import RunFolder

QUICK = DownloadConfig(timeout=0.5, deadline=8, attempts=3, max_megabytes=1, hosts=("public", "127.0.0.1"))
PIXELS = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer(png(PIXELS))
    yield server
    server.stop()


@pytest.mark.parametrize("path", ["photo.png", "photo.png?sig=tell-nobody#part", "moved/now", "recovers.png"])
def test_a_photo_on_the_web(web: WebServer, path: str) -> None:
    np.testing.assert_array_equal(load_image(web.url(path), QUICK), PIXELS)


def test_an_address_with_other_letters_spaces_and_escapes(web: WebServer) -> None:
    assert load_image(web.url("escaped/été 1%25.png"), QUICK).shape == PIXELS.shape


@pytest.mark.parametrize(
    ("path", "tries", "reason"),
    [
        ("gone.png", 1, "404"),
        ("status/403", 1, "403"),
        ("status/401", 1, "401"),
        ("status/418", 1, "answers with 418"),
        ("status/500", 3, "500"),
        ("status/429", 3, "429"),
        ("hang", 3, "says nothing for 0.5 s"),
        ("short", 3, "connection was lost"),
        ("announced", 1, "of 5000 MB is larger than 1 MB"),
        ("endless", 1, "larger than 1 MB"),
        ("page", 1, "is a web page, not an image"),
        ("empty", 1, r"empty \(0 bytes\)"),
        ("file", 1, "only http and https"),
        ("secret", 1, "leads to an address that is not followed"),
        ("loop", 6, "leads on more than 5 times"),
    ],
)
def test_what_goes_wrong_is_of_the_photo(web: WebServer, path: str, tries: int, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        load_image(web.url(f"{path}?sig=tell-nobody"), QUICK)
    text = str(caught.value)
    assert web.url(path) in text
    assert "nobody" not in text
    assert "passwd" not in text
    assert web.seen[path] == tries
    assert not concerns_the_run(caught.value)


@pytest.mark.parametrize("path", ["drip", "headers"])
def test_a_server_that_never_ends_is_given_up_and_leaves_no_thread_behind(web: WebServer, path: str) -> None:
    with pytest.raises(InputError, match=r"did not come within 0.6 s"):
        read_url(web.url(path), DownloadConfig(timeout=30, deadline=0.6, hosts=QUICK.hosts))
    assert web.seen[path] == 1
    assert wait_until(lambda: not any(thread.name == "sc3d-download" for thread in threading.enumerate()))


def test_nobody_listens_and_nobody_is_of_that_name() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(InputError, match="takes no connections"):
            read_url(f"http://127.0.0.1:{unused.getsockname()[1]}/a.png", QUICK)
    with pytest.raises(InputError, match=r"no such host|cannot be looked up|did not come"):
        read_url("http://nobody.invalid/a.png", QUICK)


def test_what_is_no_web_server(web: WebServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            connection, _ = server.accept()
            connection.sendall(b"220 mail tell-nobody\r\n")
            connection.close()

        threading.Thread(target=talk, daemon=True).start()
        with pytest.raises(InputError, match="does not speak HTTP") as caught:
            read_url(f"http://127.0.0.1:{server.getsockname()[1]}/a.png", DownloadConfig(attempts=1, deadline=3, hosts=QUICK.hosts))
        assert "nobody" not in str(caught.value)
    with pytest.raises(InputError, match="connection was lost"):
        read_url(web.url("photo.png").replace("http:", "https:"), QUICK)


@pytest.mark.parametrize(
    "address",
    [
        "https://me:secret@x.org/a",
        "http://me:sec/secret@x.org/a",
        "http://me:se?secret@x.org/a",
        "s3://a:secret@b/c",
        "ftp://a:secret@b/c",
    ],
)
def test_credentials_are_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(InputError) as caught:
        load_image(address)
    assert "secret" not in str(caught.value)


SPELLINGS = ("127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.01", "127.1", "0", "[::ffff:127.0.0.1]", "localhost", "LocalHost")


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_service_of_this_machine_is_asked_unless_it_is_allowed(web: WebServer, host: str) -> None:
    url = f"http://{host}:{web.port}/photo.png?sig=tell-nobody"
    with pytest.raises(InputError, match=r"its host may not be asked: .*dataset\.download\.hosts") as caught:
        load_image(url, DownloadConfig(timeout=2, deadline=5))
    assert "nobody" not in str(caught.value)
    assert not web.seen
    if ":" not in host:
        allowed = DownloadConfig(timeout=2, deadline=5, hosts=("127.0.0.0/8", "0.0.0.0/8", "::1"))
        assert load_image(url, allowed).shape == PIXELS.shape


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fd00:ec2::254]", "10.0.0.1", "100.64.0.1", "[fe80::1]", "[2002:7f00:1::]", "3232235777"]
)
def test_the_metadata_service_and_private_networks_are_not_asked(host: str) -> None:
    with pytest.raises(InputError, match="its host may not be asked"):
        load_image(f"http://{host}/latest/meta-data/", DownloadConfig(timeout=2, deadline=5))


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("host", SPELLINGS[:7])
def test_a_redirect_leads_to_no_other_service_of_this_machine(web: WebServer, host: str, steps: int) -> None:
    inside = WebServer(web.photo)
    web.moves = [f"http://localhost:{web.port}/away/{step}" for step in range(1, steps)] + [
        f"http://{host}:{inside.port}/photo.png?nobody"
    ]
    with pytest.raises(InputError, match="leads to a host that may not be asked") as caught:
        load_image(f"http://localhost:{web.port}/away/0", DownloadConfig(timeout=2, deadline=5, hosts=("public", "localhost")))
    assert "nobody" not in str(caught.value)
    assert str(inside.port) not in str(caught.value)
    assert sum(web.seen.values()) == steps
    assert not inside.seen
    inside.stop()


def test_a_mask_on_the_web_and_the_photo_is_asked_for_only_where_it_matters(web: WebServer) -> None:
    mask = np.zeros((24, 32), np.uint8)
    mask[5:10, 5:10] = 255
    web.photo = png(mask)

    def orientation() -> int:
        asked.append(1)
        return 6

    asked: list[int] = []
    np.testing.assert_array_equal(load_mask(web.url("photo.png"), (32, 24), orientation, QUICK), mask > 0)
    assert not asked
    assert load_mask(web.url("photo.png"), (24, 32), orientation, QUICK).shape == (32, 24)
    assert asked


@pytest.fixture
def stored(bucket: str, s3_server: str) -> str:
    """A photo in a fresh bucket."""
    client = boto3.client("s3", endpoint_url=s3_server)
    client.put_object(Bucket=bucket.removeprefix("s3://"), Key="photos/bus 1.png", Body=png(PIXELS))
    client.put_object(Bucket=bucket.removeprefix("s3://"), Key="photos/large.png", Body=bytes(1_000_001))
    return f"{bucket}/photos"


def test_a_photo_in_a_bucket(stored: str) -> None:
    np.testing.assert_array_equal(load_image(f"{stored}/bus 1.png", QUICK), PIXELS)
    np.testing.assert_array_equal(load_image(f"{stored}/bus%201.png", QUICK), PIXELS)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone.png", "no such object"),
        ("large.png", "is larger than 1 MB"),
        ("../bus 1.png", "has a part '..'"),
        ("what?.png", "write a question mark in a key as %3F"),
        ("", "not an address in a bucket"),
    ],
)
def test_what_goes_wrong_in_a_bucket_is_of_the_photo(stored: str, name: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        load_image(f"{stored}/{name}", QUICK)


def test_a_bucket_that_is_not_there_is_of_the_photo(stored: str) -> None:
    with pytest.raises(InputError, match="there is no bucket 'sc3d-no-such-bucket'"):
        load_image("s3://sc3d-no-such-bucket/a.png", QUICK)


def test_a_refused_object_is_of_the_photo_and_a_refused_bucket_is_not(stored: str, faulty_s3: Any) -> None:
    faulty_s3.set("deny", match="bus")
    with pytest.raises(InputError, match="refused, though the bucket is not"):
        load_image(f"{stored}/bus 1.png", QUICK)
    faulty_s3.set("deny")
    with pytest.raises(StoreDeniedError):
        load_image(f"{stored}/bus 1.png", QUICK)


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """A server that would like to have credentials; there are some in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATELLNOBODY")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "tell-nobody")
    server = WebServer(png(PIXELS))
    yield server
    server.stop()


@pytest.mark.parametrize(
    "address",
    ["s3://photos/photo.png?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1", "s3://127.0.0.1:{port}/photo.png",
     "s3://photos@127.0.0.1:{port}/photo.png", "s3://127.0.0.1%3A{port}%2F/photo.png", "s3://photos/a.png%3Fx?scheme=http&endpoint_override=127.0.0.1:{port}",
     "S3://photos/photo.png?endpoint_override=127.0.0.1%3A{port}&scheme=http"],
)  # fmt: skip
def test_no_address_sends_the_credentials_anywhere(stored: str, stranger: WebServer, tmp_path: Path, address: str) -> None:
    address = address.format(port=stranger.port)
    with pytest.raises(InputError) as caught:
        load_image(address, QUICK)
    assert not concerns_the_run(caught.value), "it rejects one photo"
    assert (
        hash_contents(RunFolder(tmp_path), [address])[address]
        == hash_contents(RunFolder(tmp_path), ["s3://no-such/x"])["s3://no-such/x"]
    )
    actor = LoadImage(RunConfig(dataset=DatasetConfig(download=QUICK)))
    rows = [{"image_id": "stranger", "path": address}, {"image_id": "ours", "path": f"{stored}/bus 1.png"}]
    rejected, ours = run_actors([actor], rows, "image_id", "reconstruct")
    assert rejected.reject is not None
    assert ours.reject is None
    assert not stranger.seen


def test_where_a_bucket_lies_is_the_configuration_s_to_say(
    stored: str, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    bucket = stored.removesuffix("/photos")
    options = f"scheme=http&endpoint_override={s3_server.removeprefix('http://')}&region=us-east-1"
    address = f"{stored}/bus 1.png"
    for listed in (f"{bucket}?{options}", f"s3://*?{options}"):
        download = dataclasses.replace(QUICK, buckets=(listed,))
        np.testing.assert_array_equal(load_image(address, download), PIXELS)
        assert hash_contents(RunFolder(tmp_path), [address], download=download)[address]
    with pytest.raises(InputError, match=r"is not one of dataset\.download\.buckets"):
        load_image(address, dataclasses.replace(QUICK, buckets=("s3://another",)))


@pytest.mark.parametrize("mode", ["slow_down", "error", "refuse", "truncate"])
def test_a_store_that_is_away_is_not_of_the_photo(stored: str, faulty_s3: Any, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SC3D_STORE_PATIENCE", "0")
    faulty_s3.set(mode)
    with pytest.raises(StoreUnavailableError) as caught:
        read_object(f"{stored}/bus 1.png")
    assert concerns_the_run(caught.value)


def test_a_store_that_comes_back_is_waited_for(stored: str, faulty_s3: Any) -> None:
    faulty_s3.set("slow_down", times=6)
    np.testing.assert_array_equal(load_image(f"{stored}/bus 1.png", QUICK), PIXELS)


def test_a_store_that_is_away_ends_the_run_and_a_web_server_does_not(
    stored: str, web: WebServer, faulty_s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SC3D_STORE_PATIENCE", "0")
    actor = LoadImage(RunConfig(dataset=DatasetConfig(download=QUICK)))
    rows = [{"image_id": "web", "path": web.url("status/500")}, {"image_id": "store", "path": f"{stored}/bus 1.png"}]
    (web_outcome, store_outcome) = run_actors([actor], rows, "image_id", "reconstruct")
    assert web_outcome.reject is not None
    assert store_outcome.reject is None
    faulty_s3.set("slow_down")
    with pytest.raises(StoreUnavailableError):
        run_actors([actor], rows, "image_id", "reconstruct")
