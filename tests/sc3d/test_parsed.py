"""Plain values as a kind: a right value, or an error that names file and field."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import NotRequired, TypedDict

from sc3d.errors import MissingFileError, SchemaError
from sc3d.parsed import NOTE_BYTES, Amount, Number, Share, Whole, parsed, parsed_json, read_parsed, read_parsed_text
from sc3d.store import RUN_VERSION, RunFolder


class Part(TypedDict):
    """Of the tests."""

    name: str
    count: Whole
    share: NotRequired[Share | None]
    size: NotRequired[Amount]


class Kind(TypedDict):
    """Of the tests."""

    parts: list[Part]
    offset: Number


GOOD: dict[str, Any] = {"parts": [{"name": "a", "count": 3, "share": 0.5}], "offset": -1.5}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_what_is_right_comes_back_without_what_nobody_asked_for(run: RunFolder) -> None:
    run.write_json("x.json", {**GOOD, "later": {"more": 1}})
    assert read_parsed(run, "x.json", Kind) == GOOD
    with pytest.raises(MissingFileError):
        read_parsed(run, "y.json", Kind)


@pytest.mark.parametrize(
    ("place", "value", "field"),
    [
        ((), [], "x.json"),
        (("parts",), {}, "parts"),
        (("parts", 0), 1, r"parts\.0"),
        (("parts", 0, "name"), None, r"parts\.0\.name"),
        (("parts", 0, "count"), -1, r"parts\.0\.count"),
        (("parts", 0, "count"), 2**63, r"parts\.0\.count"),
        (("parts", 0, "count"), 1.5, r"parts\.0\.count"),
        (("parts", 0, "share"), 1.5, r"parts\.0\.share"),
        (("parts", 0, "share"), float("nan"), r"parts\.0\.share"),
        (("parts", 0, "size"), float("inf"), r"parts\.0\.size"),
        (("offset",), 1e301, "offset"),
        (("offset",), "far", "offset"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(run: RunFolder, place: tuple[Any, ...], value: Any, field: str) -> None:
    content = json.loads(json.dumps({"schema_version": RUN_VERSION, **GOOD}))
    if place:
        inner = content
        for part in place[:-1]:
            inner = inner[part]
        inner[place[-1]] = value
    else:
        content = value
    run.write_bytes("x.json", json.dumps(content).encode())
    with pytest.raises(SchemaError, match=rf"x\.json.*{field}|{field}") as caught:
        read_parsed(run, "x.json", Kind)
    assert "x.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"[" * 200_000, b'{"schema_version": 1, "x": ' + b"[" * 500 + b"]" * 500 + b"}", b"\xff{}", b""])
def test_what_is_no_json_within_bounds_is_named(run: RunFolder, data: bytes) -> None:
    run.write_bytes("x.json", data)
    with pytest.raises(SchemaError, match=r"x\.json"):
        read_parsed(run, "x.json", Kind)


def test_a_large_file_is_not_even_read(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "x.json").touch()
    os.truncate(tmp_path / "x.json", 80 << 20)
    for read in (lambda: read_parsed(run, "x.json", Kind), lambda: read_parsed_text(run, "x.json", dict[str, Any])):
        with pytest.raises(SchemaError, match=r"x\.json: the file of 83\.9 MB is larger than"):
            read()


def test_a_large_object_of_a_bucket_is_not_even_read(bucket: str) -> None:
    run = RunFolder(f"{bucket}/run")
    run.write_bytes("x.json", b'{"schema_version": 1, "parts": [], "offset": 1}'.ljust(NOTE_BYTES))
    assert read_parsed(run, "x.json", Kind) == {"parts": [], "offset": 1}
    run.write_bytes("x.json", b'{"schema_version": 1, "parts": [], "offset": 1}'.ljust(NOTE_BYTES + 1))
    for read in (lambda: read_parsed(run, "x.json", Kind), lambda: read_parsed_text(run, "x.json", dict[str, Any])):
        with pytest.raises(SchemaError, match=r"x\.json: the file of 1\.0 MB is larger than"):
            read()


@pytest.mark.timeout(60)
def test_a_pipe_is_not_waited_for(run: RunFolder, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.json")
    with pytest.raises(SchemaError, match=r"x\.json: cannot be read \(it is a pipe"):
        read_parsed(run, "x.json", Kind)


def test_many_mistakes_are_one_line() -> None:
    with pytest.raises(SchemaError) as caught:
        parsed(Kind, {"parts": [{"name": 1, "x" * 100_000: 1}] * 500, "offset": 0}, "x.json")
    assert len(str(caught.value)) < 2000
    assert "and 992 more" in str(caught.value)


def test_yaml_of_a_run_folder_comes_as_text_and_as_options(run: RunFolder) -> None:
    run.write_bytes("best.yaml", b"match: {alpha: 0.5}\n")
    text, options = read_parsed_text(run, "best.yaml", dict[str, dict[str, Any]])
    assert (text, options) == ("match: {alpha: 0.5}\n", {"match": {"alpha": 0.5}})
    for data, reason in ((b"match: 3", "match: "), (b"match: [", "line 1"), ("match: é".encode("latin-1"), "UTF-8")):
        run.write_bytes("best.yaml", data)
        with pytest.raises(SchemaError, match=rf"best\.yaml: .*{reason}"):
            read_parsed_text(run, "best.yaml", dict[str, dict[str, Any]])


def test_json_without_a_version_is_a_kind_too() -> None:
    assert parsed_json(dict[str, str], b'{"a": "b"}', "plan") == {"a": "b"}
    for data in (b'{"a": 1}', b"[]", b"{"):
        with pytest.raises(SchemaError, match="plan: "):
            parsed_json(dict[str, str], data, "plan")
