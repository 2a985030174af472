"""One address means one place, however it is written and whoever reads it."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.bucket_weights import fetch
from pipelines.stages.methods import _read_anywhere
from sc3d.addresses import object_of
from sc3d.datasets.label_export.folder import ExportFolder
from sc3d.errors import InputError, StoreError
from sc3d.remote_images import read_object
from sc3d.s3_addresses import endpoint_of, folder_and_name, parse_s3
from sc3d.store import RunFolder
from sc3d.store_s3 import S3Store, locate

BUCKETS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{1,30}[A-Za-z0-9]", fullmatch=True)
PARTS = st.text(st.characters(exclude_characters="/\\", exclude_categories=("Cc", "Cs")), min_size=1, max_size=12).filter(
    lambda part: part not in (".", "..")
)
KEYS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
SCHEMES = st.sampled_from(["s3", "S3"])


def written(scheme: str, bucket: str, key: str, escaped: bool) -> str:
    """An address of a key: all that is not plain escaped, or only what would mean something else."""
    plain = quote(key) if escaped else key.replace("%", "%25").replace("?", "%3F")
    return f"{scheme}://{bucket}/{plain}"


@given(SCHEMES, BUCKETS, KEYS, st.booleans(), st.integers(0, 2))
def test_any_spelling_is_the_same_place_for_all_readers(scheme: str, bucket: str, key: str, escaped: bool, slashes: int) -> None:
    address = written(scheme, bucket, key, escaped)
    assert object_of(address) == (bucket, key)
    folder = address + "/" * slashes
    expected = (bucket, f"{bucket}/{key}", ())
    assert tuple(parse_s3(folder)) == tuple(locate(folder)) == expected
    assert RunFolder(folder).path("name") == f"{bucket}/{key}/name"
    assert RunFolder(folder).uri.startswith("s3://")
    above, name = folder_and_name(folder)
    assert parse_s3(above).root == f"{bucket}/{key}".rpartition("/")[0]
    assert name == key.rpartition("/")[2]


@given(BUCKETS, KEYS, st.sampled_from(["a//b", "a/./b", "a/../b", "/a", "//a", "a\x00b", "a\nb"]), st.booleans())
def test_what_libraries_would_tidy_is_refused_by_all(bucket: str, key: str, bad: str, escaped: bool) -> None:
    address = written("s3", bucket, f"{key}/{bad}", escaped)
    with pytest.raises(InputError):
        object_of(address)
    with pytest.raises(StoreError):
        RunFolder(address)


@pytest.mark.parametrize(
    "address",
    ["s3://", "S3://", "s3:///a", "s3:/bucket/a", "s3:bucket", "s3://a b/c", "s3://key:secret@bucket/a", "s3://1.2.3.4/a"],
)
def test_what_is_no_address_in_a_bucket(address: str) -> None:
    with pytest.raises(StoreError) as caught:
        RunFolder(address)
    assert "secret" not in str(caught.value)


def test_two_slashes_say_what_to_write() -> None:
    with pytest.raises(StoreError, match=r"s3://bucket//run: has two slashes in a row; write one"):
        RunFolder("s3://bucket//run")


HOSTS = st.sampled_from(["minio", "127.0.0.1", "s3.example.org", "[::1]", "[fd00::1]"])


@given(HOSTS, st.none() | st.integers(1, 65_535), st.sampled_from(["", "http", "https", "HTTP"]), st.sampled_from(["", "/"]))
def test_an_endpoint_with_or_without_a_scheme(host: str, port: int | None, scheme: str, slash: str) -> None:
    place = host if port is None else f"{host}:{port}"
    text = f"{scheme}://{place}{slash}" if scheme else place + slash
    expected = (scheme.lower() or "https", place)
    assert endpoint_of(text) == expected
    found = dict(parse_s3(f"s3://bucket/run?{urlencode({'endpoint_override': text})}").options)
    assert (found["scheme"], found["endpoint_override"]) == expected
    assert dict(parse_s3(f"s3://bucket/run?endpoint_override={text}").options) == found
    assert dict(parse_s3(f"s3://bucket/run?scheme=http&endpoint_override={place}").options) == {
        "scheme": "http",
        "endpoint_override": place,
    }


@pytest.mark.parametrize(
    "options",
    [
        "endpoint_override=", "endpoint_override=ftp://host", "endpoint_override=http://", "endpoint_override=http://host/path",
        "endpoint_override=me:pw@host", "endpoint_override=host:port", "endpoint_override=a b", "scheme=ftp", "acl=public",
        "scheme=https&endpoint_override=http://host", "region=a&region=b",
    ],
)  # fmt: skip
def test_options_that_cannot_be_used_are_named_at_once(options: str) -> None:
    with pytest.raises(StoreError, match=r"s3://bucket/run: .*(endpoint|scheme|option)"):
        RunFolder(f"s3://bucket/run?{options}")


@pytest.mark.parametrize("value", ["nonsense:9000/x", "ftp://minio", "http://"])
def test_an_endpoint_of_the_environment_that_is_none_is_named_and_nobody_else_is_asked(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """Amazon's servers would be, if it were passed over."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", value)
    with pytest.raises(StoreError, match="AWS_ENDPOINT_URL"):
        RunFolder("s3://bucket/run", patience=0).exists("run.json")


@pytest.mark.parametrize(("scheme", "escaped"), [("s3", False), ("S3", True)])
@pytest.mark.parametrize(
    "key", ["my run", "Lauf/Ärger +1", "a%20b", "q?x=1#y", "CAPITALS/Und klein", "x&y=z", "'a' \"b\"", "~home"]
)
def test_our_store_pyarrow_ray_and_boto3_meet_in_one_object(
    bucket: str, tmp_path: Path, key: str, scheme: str, escaped: bool
) -> None:
    import boto3

    name = bucket.removeprefix("s3://")
    address = written(scheme, name, key, escaped)
    run = RunFolder(address)
    run.write_bytes("one.bin", b"one")
    assert run.create_bytes("two.bin", b"two")
    # As Ray's workers get it.
    files = pickle.loads(pickle.dumps(run.arrow()))  # noqa: S301
    with files.open_output_stream(run.path("three.bin")) as stream:
        stream.write(b"three")
    export = ExportFolder(f"{address}/out")
    with export.writing("four.bin") as sink:
        sink.write(b"four")
    client = boto3.client("s3")
    found = {entry["Key"] for entry in client.list_objects_v2(Bucket=name, Prefix=key)["Contents"]}
    assert {f"{key}/{file}" for file in ("one.bin", "two.bin", "three.bin", "out/four.bin")} <= found
    body = io.BytesIO()
    client.download_fileobj(name, f"{key}/three.bin", body)
    assert body.getvalue() == run.read_bytes("three.bin") == b"three"
    assert read_object(f"{address}/two.bin") == b"two"
    assert fetch(f"{address}/one.bin", (), tmp_path / "cache").read_bytes() == b"one"
    assert _read_anywhere(f"{address}/one.bin") == b"one"


@pytest.mark.parametrize(
    "stated", ["endpoint_override={0}", "scheme=http&endpoint_override={1}", "scheme=HTTP&endpoint_override={0}"]
)
def test_an_endpoint_in_the_address_is_reached_however_it_is_written(
    s3_server: str, bucket: str, monkeypatch: pytest.MonkeyPatch, stated: str
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    run = RunFolder(f"{bucket}/run?{stated.format(s3_server, s3_server.removeprefix('http://'))}", patience=0)
    run.write_bytes("a", b"1")
    assert run.read_bytes("a") == b"1"
    assert run.create_bytes("b", b"2")


def test_one_file_system_serves_all_spellings_of_a_folder(s3_server: str) -> None:
    assert S3Store(locate("s3://bucket/a")).arrow() is S3Store(locate("S3://bucket/a/")).arrow()


def test_a_folder_at_home_and_one_with_escapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    RunFolder("~/run").write_bytes("a", b"1")
    RunFolder(f"FILE://{tmp_path}/a%20b").write_bytes("a", b"2")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("a")) == ["a b/a", "home/run/a"]
