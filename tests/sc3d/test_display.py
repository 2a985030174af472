"""No name and no message shows what may be a secret in an address."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d.display import shown, without_secrets
from sc3d.errors import ConfigError, InputError, SchemaError, StoreUnavailableError
from sc3d.records import Reject

HIDDEN = "tell-nobody"


def test_addresses_as_people_see_them() -> None:
    assert shown("/a b/c?d.jpg") == "/a b/c?d.jpg"
    assert shown("https://me:secret@x.org:8080/a.jpg?sig=1#2") == "https://x.org:8080/a.jpg"
    assert shown("http://[::1]:80/a.jpg") == "http://[::1]:80/a.jpg"
    assert shown("s3://bucket/a#1.jpg?region=x") == "s3://bucket/a#1.jpg"
    assert shown("https:/me:secret@x.org/a.jpg?sig=1") == "https:/x.org/a.jpg"
    assert shown("C:\\photos\\a?.jpg") == "C:\\photos\\a?.jpg"


def test_texts_that_hold_addresses() -> None:
    text = "LoadImage: cannot open 'https://x.org/a.jpg?sig=1', (see s3://me:pw@b/c?d=1) nor /data/what?.png: https://x.org/@me/b."
    assert (
        without_secrets(text)
        == "LoadImage: cannot open 'https://x.org/a.jpg', (see s3://b/c) nor /data/what?.png: https://x.org/@me/b."
    )
    assert without_secrets("no address: a/b, 12:30, x?y#z") == "no address: a/b, 12:30, x?y#z"


def addresses() -> st.SearchStrategy[str]:
    """Addresses of all kinds, also such that are none, with a secret wherever there may be one."""
    schemes = st.sampled_from(["https://", "HTTP://", "s3://", "S3://", "ftp://", "https:/", "http:\\\\", "gs://", "git+ssh://"])
    users = st.sampled_from(["", f"{HIDDEN}@", f"me:{HIDDEN}@", f"me:{HIDDEN}/x@", f"me:a?{HIDDEN}@", f"me:#{HIDDEN}@"])
    hosts = st.sampled_from(["x.org", "x.org:8080", "[::1]:80", "b", "127.0.0.1"])
    tails = st.sampled_from(["", "/", "/a.jpg", "/a/b c.png", "/été/@me/1.webp"])
    ends = st.sampled_from(["", f"?{HIDDEN}", f"?X-Amz-Signature={HIDDEN}&b='{HIDDEN}'", f"?a=1#{HIDDEN}", f'?"{HIDDEN}"'])
    return st.builds("{}{}{}{}{}".format, schemes, users, hosts, tails, ends)


@given(addresses())
def test_no_secret_of_an_address_is_shown(address: str) -> None:
    assert HIDDEN not in shown(address)


@pytest.mark.parametrize("kind", [InputError, ConfigError, StoreUnavailableError, SchemaError])
@given(
    address=addresses(),
    before=st.sampled_from(["", "'", '"', "(", "path="]),
    after=st.sampled_from(["", "'", ": cannot", "), x", "."]),
)
def test_no_error_of_ours_and_no_reject_holds_one(kind: type[InputError], address: str, before: str, after: str) -> None:
    # Who writes an address with a space into a message shows it by `shown`, since nothing says where it ends.
    text = f"it is {before}{address.replace(' ', '%20')}{after}"
    error = kind(text)
    assert HIDDEN not in f"{error} {error!r} {error.args}"
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(again), str(again)) == (kind, str(error))
    reject = Reject("a", "reconstruct", "ValueError", f"Model: {text}")
    assert HIDDEN not in reject.message
    assert reject.replace(attempts=2).message == reject.message
