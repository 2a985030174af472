"""Claims and beats as bytes: all of one length, read back as they were, and whatever is not one is none."""

from __future__ import annotations

import json
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d.lease_records import Beat, Claim, decode, encode
from sc3d.machine import is_running, this_machine

text = st.text(max_size=12)
claims = st.builds(Claim, text, text, text, st.integers(0, 2**22), text, text, st.floats(0.001, 3600))
beats = st.builds(Beat, text, st.integers(0, 2**31), st.floats(0, 1e9), text, st.booleans())


@given(claims | beats)
def test_they_survive_being_written_and_have_one_length(record: Claim | Beat) -> None:
    data = encode(record)
    assert decode(type(record), data) == record
    assert len(data) == 1024


@given(claims | beats, st.integers(0, 1023))
def test_one_that_comes_cut_is_whole_or_none(record: Claim | Beat, length: int) -> None:
    assert decode(type(record), encode(record)[:length]) in (record, None)


@given(claims, beats)
def test_one_kind_is_not_taken_for_the_other(claim: Claim, beat: Beat) -> None:
    assert decode(Beat, encode(claim)) is None
    assert decode(Claim, encode(beat)) is None


@pytest.mark.parametrize("data", [b"", b"\x00" * 1024, b"\xff\xfe", b"[]", b"{}", b"null", b"3", b'"beat"', b'{"token": "a"}'])
def test_what_is_none_is_none(data: bytes) -> None:
    assert decode(Claim, data) is None
    assert decode(Beat, data) is None


def test_a_beat_with_more_than_it_should_have_is_none() -> None:
    values = json.loads(encode(Beat.of_now("a", 1, False)))
    assert decode(Beat, json.dumps({**values, "more": 1}).encode()) is None


def test_a_claim_says_which_process_of_which_machine_it_is_of() -> None:
    claim = Claim.of_this_process("token", 2.5)
    assert (claim.token, claim.machine, claim.pid, claim.interval_s) == ("token", this_machine(), os.getpid(), 2.5)
    assert is_running(claim.pid, claim.process_start)
    nobody = Claim.of_nobody(2.5)
    assert nobody.machine != this_machine(), "so that no process is looked up for it"
    assert nobody.interval_s == 2.5


def test_a_beat_is_of_the_time_that_the_machines_processes_share() -> None:
    before = time.monotonic()
    beat = Beat.of_now("token", 7, True)
    assert before <= beat.uptime_s <= time.monotonic()
    assert (beat.token, beat.count, beat.released) == ("token", 7, True)


CLAIM = json.loads(encode(Claim("t", "h", "m", 7, "s", "now", 10.0)))
BEAT = json.loads(encode(Beat("t", 3, 12.5, "now", False)))


@pytest.mark.parametrize(
    "change",
    [
        *({"interval_s": value} for value in (0, -1, float("nan"), float("inf"), -float("inf"), "10", None, True, [10], 10**400)),
        *({"pid": value} for value in (-1, "7", 7.5, None, 2**31, 10**30)),
        *({name: value} for name in ("token", "host", "machine", "process_start", "since") for value in (1, None, ["t"])),
    ],
)
def test_a_claim_with_a_wrong_field_is_nobodys(change: dict[str, object]) -> None:
    assert decode(Claim, json.dumps(CLAIM).encode()) is not None
    assert decode(Claim, json.dumps({**CLAIM, **change}).encode()) is None


@pytest.mark.parametrize(
    "change", [{"uptime_s": float("nan")}, {"uptime_s": "1"}, {"count": -1}, {"count": 1.5}, {"released": 1}, {"at": 3}]
)
def test_a_beat_with_a_wrong_field_is_none(change: dict[str, object]) -> None:
    assert decode(Beat, json.dumps(BEAT).encode()) is not None
    assert decode(Beat, json.dumps({**BEAT, **change}).encode()) is None


@pytest.mark.parametrize(("said", "meant"), [(1e9, 60.0), (3600.0, 60.0), (60.0, 60.0), (10, 10.0), (1e-300, 0.05)])
def test_nobody_waits_longer_for_a_holder_than_for_three_minutes(said: float, meant: float) -> None:
    claim = decode(Claim, json.dumps({**CLAIM, "interval_s": said}).encode())
    assert claim is not None
    assert claim.interval_s == meant
    assert Claim.of_this_process("t", said).interval_s == meant, "what is written is what will be read"


@pytest.mark.parametrize("data", [b" " * 5000 + b"{}", b"[" * 4000, b'{"a":' * 600, b"9" * 4096, "é".encode("latin-1")])
def test_what_is_long_deep_or_no_text_is_none(data: bytes) -> None:
    assert decode(Claim, data) is None
    assert decode(Beat, data) is None


def test_a_huge_file_that_begins_as_a_claim_is_none() -> None:
    assert decode(Claim, json.dumps(CLAIM).encode() + b" " * 10_000_000) is None
