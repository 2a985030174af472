"""What an address may say, and what only the configuration may."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d.addresses import ANY_BUCKET, buckets_of, check_address, locate_bucket, object_of
from sc3d.config_file import load_config
from sc3d.errors import ConfigError, InputError


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("s3://photos/a.jpg", ("photos", "a.jpg")),
        ("S3://Old_Bucket/b/c%3Fd 1.jpg", ("Old_Bucket", "b/c?d 1.jpg")),
        ("s3://a.b-c/%C3%A9.jpg", ("a.b-c", "é.jpg")),
        ("s3://ph%6ftos/a#1.jpg", ("photos", "a#1.jpg")),
    ],
)
def test_an_object(address: str, found: tuple[str, str]) -> None:
    check_address(address)
    assert object_of(address) == found


@pytest.mark.parametrize(
    "address",
    ["s3://photos/a.jpg?endpoint_override=evil.org&scheme=http", "s3://photos/a.jpg?region=eu-west-1", "s3://photos/a.jpg?",
     "s3://photos/a.jpg?versionId=3", "s3://photos?endpoint_override=evil.org/a.jpg"],
)  # fmt: skip
def test_an_address_has_no_options(address: str) -> None:
    with pytest.raises(InputError, match=r"has no options; .* dataset\.download\.buckets") as caught:
        object_of(address)
    assert "evil" not in str(caught.value)


@given(st.text(st.characters(exclude_characters="/"), min_size=1, max_size=80) | st.text("aZ0._-%2F@:", min_size=3, max_size=8))
def test_a_bucket_is_a_name_and_nothing_else(text: str) -> None:
    """No character reaches a host's name that could end it, or begin another one."""
    try:
        bucket, _ = object_of(f"s3://{text}/a.jpg")
    except InputError:
        return
    assert bucket.isascii()
    assert set("".join(c for c in bucket if not c.isalnum())) <= set("._-")
    assert ".." not in bucket
    assert bucket[0].isalnum()
    assert bucket[-1].isalnum()


@pytest.mark.parametrize(
    "bucket",
    ["127.0.0.1", "evil.org:80", "evil.org%3A80", "a%40evil.org", "evil.org%23", "evil.org%3Fx", "x%5Cy", "..", "a..b", "-a-", "a", "a%00b",
     "a%0Ab", "arn:aws:s3:us-east-1:1:accesspoint", "*", "a" * 64, "%2e%2e"],
)  # fmt: skip
def test_what_is_no_bucket(bucket: str) -> None:
    with pytest.raises(InputError):
        object_of(f"s3://{bucket}/a.jpg")


def test_the_configuration_says_where_a_bucket_is() -> None:
    listed = ("s3://photos?region=eu-west-1", "s3://*?endpoint_override=minio:9000&scheme=http")
    assert locate_bucket("photos", listed).options == (("region", "eu-west-1"),)
    other = locate_bucket("masks", listed)
    assert (other.bucket, other.root, dict(other.options)) == (
        "masks",
        "masks",
        {"endpoint_override": "minio:9000", "scheme": "http"},
    )
    assert locate_bucket("photos", (ANY_BUCKET,)).options == ()
    with pytest.raises(InputError, match=r"bucket 'masks' is not one of dataset\.download\.buckets"):
        locate_bucket("masks", listed[:1])


@pytest.mark.parametrize(
    "entry", ["photos", "s3://", "s3://photos/below", "https://photos", "s3://a b", "s3://photos?acl=x", "s3://*x"]
)
def test_a_list_of_something_else_is_an_error_of_the_configuration(entry: str) -> None:
    with pytest.raises(ValueError, match=r"bucket|no option"):
        buckets_of([entry])
    with pytest.raises(ConfigError, match=r"dataset\.download\.buckets"):
        load_config(None, (), {"dataset": {"download": {"buckets": [entry]}}})


def test_rules_for_hosts_that_are_none_are_an_error_of_the_configuration() -> None:
    assert load_config(None, ['dataset.download.hosts=["public", "nas:8080"]']).dataset.download.hosts == ("public", "nas:8080")
    with pytest.raises(ConfigError, match=r"dataset\.download\.hosts: .*'http://nas' is not a rule for hosts"):
        load_config(None, ['dataset.download.hosts=["http://nas"]'])
