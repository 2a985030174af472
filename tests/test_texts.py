"""Every text that a command reads, broken in every way: a right result or an error that is meant for a person, and nothing else.

A reader is a line of :data:`READERS`: a file as the program writes it, and what reads it all the way to what a person sees.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.cli.options import configuration
from pipelines.folder.configuration import RUN, check_owner, record_configuration
from pipelines.jobs.label_card import OriginNote
from pipelines.report.evaluation import category_chart, note_counts
from pipelines.report.metrics import METRICS_FILE, read_metrics
from pipelines.report.search import (
    BEST_ADAPTER,
    BEST_CYCLES,
    BEST_LABELS,
    FOUND_ADAPTER,
    FOUND_CYCLES,
    FOUND_LABELS,
    usage,
    write_page,
)
from pipelines.report.status import STATUS, print_status
from pipelines.runner.stage import StageSummary
from pipelines.runner.timings import cost_of_thousand, read_summaries, record_summary
from sc3d.config import DatasetConfig, RunConfig
from sc3d.config_file import load_config, to_values
from sc3d.console import PlainConsole
from sc3d.datasets.label_export.counts import LabelCounts
from sc3d.datasets.label_export.folder import JOURNAL, ExportFolder, ExportState
from sc3d.errors import Sc3dError, StoreError
from sc3d.label_reader import last_recipe
from sc3d.lease import DEAD_AFTER
from sc3d.lease_records import Beat, Claim, decode, encode
from sc3d.mesh_reader import meshes
from sc3d.parsed import parsed_json, read_parsed
from sc3d.report.metrics import category_tables
from sc3d.report.overview import metric_tiles, timing_rows
from sc3d.report.terminal import print_metrics
from sc3d.store import RUN_VERSION, RunFolder
from training.adapter import adapter_metadata
from training.search import Curve, finished_trials, rank_trials
from training.tune_state import tune_state

FEW, MANY = 30, 10_000


@dataclass(frozen=True)
class Reader:
    """A file of a run folder (``name``), what is in it, and what reads it, in the folder; ``is_yaml``: else JSON."""

    name: str
    content: Any
    read: Callable[[RunFolder, str], object]
    is_yaml: bool = False

    def encoded(self, content: Any) -> bytes:
        text = yaml.safe_dump(content) if self.is_yaml else json.dumps(content)
        return text.encode("utf-8", "surrogatepass")


def versioned(**values: Any) -> dict[str, Any]:
    return {"schema_version": RUN_VERSION, **values}


def console() -> PlainConsole:
    return PlainConsole(file=io.StringIO(), width=100)


def read_config(run: RunFolder, name: str) -> None:
    load_config(run.path(name))
    load_config(run.path(name), defaults=to_values(RunConfig()))


def read_override(run: RunFolder, name: str) -> None:
    text = run.read_bytes(name).decode("utf-8", "surrogateescape")
    to_values(load_config(None, [f"sweep.space={text}"]))


def read_run(run: RunFolder, name: str) -> None:
    configuration(run.uri, None, ["train.steps=3"], {}, reset=["label.tau_geo", "profile"], say=True)
    check_owner(run, RunConfig(dataset=DatasetConfig(root="elsewhere")), ["a"])
    record_configuration(run, RunConfig())


def read_timings(run: RunFolder, name: str) -> None:
    timing_rows(read_summaries(run, ("match",)))
    cost_of_thousand(run, ["match"])
    record_summary(run, StageSummary("match", 5, 5, 1, 0.25, {"images read": 7}))
    json.loads(run.read_bytes(name))


def read_evaluation(run: RunFolder, name: str) -> None:
    metrics = read_metrics(run)
    print_metrics(metrics, console())
    metric_tiles(metrics)
    category_chart(category_tables(metrics))
    note_counts(type("view", (), {"note": lambda *_: None})(), metrics)


def read_search(run: RunFolder, name: str) -> None:
    write_page(run)
    if name == BEST_LABELS:
        # As in a bucket, where the options are written out.
        run.is_local = False
        usage(run, name, ("label",))


def read_lease(run: RunFolder, name: str) -> None:
    data = run.read_bytes(name)
    if (claim := decode(Claim, data)) is not None:
        assert 0.05 <= claim.interval_s <= 60
        assert DEAD_AFTER * claim.interval_s <= 180
        assert decode(Claim, encode(claim)) == claim or len(encode(claim)) > 1024
    if (beat := decode(Beat, data)) is not None:
        assert beat == beat, "one that is not a number would always seem to be a new one"


def read_journal(run: RunFolder, name: str) -> None:
    found = ExportFolder(run.uri).claim(ExportState("key", np.zeros(9, bool)), lambda _: False, overwrite=False)
    assert len(found.seen) < 100
    LabelCounts.total(part for parts in found.counts.values() for part in parts.values())
    json.dumps(found.to_json())


def read_header(run: RunFolder, name: str) -> None:
    header = run.read_bytes(name)
    adapter_metadata(len(header).to_bytes(8, "little") + header)


def read_metadata(run: RunFolder, name: str) -> None:
    header = json.dumps({"__metadata__": {"sc3d.adapter": run.read_bytes(name).decode("utf-8", "replace")}}).encode()
    adapter_metadata(len(header).to_bytes(8, "little") + header)


NOW = "2031-05-06T07:08:09+00:00"
SETTING = {"alpha": 0.5, "beta": 0.25, "gamma": 0.25, "tau_cc": 0.05, "tau_geo": 0.03, "fpr": 0.02, "kept": 120.5, "judged": 80}
LABELS = versioned(
    rows=[{**SETTING, "pck": 0.5, "present": True}, {**SETTING, "fpr": None, "pck": None, "present": False}],
    wanted=100.0,
    objective="fpr",
    pairs=7,
    steps=4,
)
CYCLE = {"tau_geo": 0.05, "labels": 50.5, "wrong": 0.02, "low": 0.01, "high": 0.04, "chains": 900, "triangles": 40, "present": True}
UNKNOWN = {**CYCLE, "tau_geo": 0.02, "wrong": None, "low": None, "high": None, "chains": 0, "triangles": 0, "present": False}
CYCLES = versioned(precision=0.95, best=0.05, rows=[UNKNOWN, CYCLE], categories={"car": [UNKNOWN, CYCLE]})
TRIAL = {"settings": {"train.noise": 0.5, "match.weights": [0.5, 0.25], "train.both_ways": True, "train.negatives": "map"}}
TRIAL |= {"trial": "a", "pck": 0.5, "steps": 4, "curve": [[2, 0.25, 1.0], [4, 0.5, float("nan")]], "error": None}
SPACE = {"train.noise": {"low": 0.1, "high": 1.0, "log": True}, "match.weights": [[0.5, 0.25]], "train.both_ways": [True, False]}
TRIALS = versioned(rows=[TRIAL, {**TRIAL, "pck": None, "curve": [], "error": "x"}], steps=4, space=SPACE, folder="sweeps/a")
PCK = {"method": "a nearest", "dataset": "toys", "subset": "all", "alpha": 0.1, "average": "image", "value": 0.5, "pairs": 3}
COUNTS = {"method": "a", "pairs": 3, "rejected": 1, "without_common": 1, "keypoints": 8, "outside": 1, "flipped": 1}
METRICS = versioned(
    methods=["zero-shot"],
    filters=[{"filter": "cycle", "descriptors": "2D", "fpr": 0.2, "kept": 12.0, "pairs": 3}],
    pck=[PCK, {**PCK, "subset": "category:car"}, {**PCK, "subset": "category:cup", "value": None}],
    counts=[COUNTS],
)
STAGE = {"name": "match", "total": 40, "done": 10, "rejects": 7, "rate": 2.5}
STATE = ExportState("key", np.arange(9) > 4, 3, 2, 1, {"car": {"trn": LabelCounts(3, 40, 90, 60, 999)}})
TRAINED = {"schema_version": 1, "feature_dims": [8, 8], "channels": 4, "sources": ["a", "b"], "recipe": "r", "scores": {"pck": 0.5}}

READERS = {
    "configuration": Reader(
        "run.yaml", {"match": {"alpha": 0.4}, "sweep": {"space": {"train.noise": [0.5]}}}, read_config, is_yaml=True
    ),
    "override": Reader("override", {"train.noise": [0.5, 1], "label": {"tau_geo": {"low": 0.1}}}, read_override, is_yaml=True),
    "run.json": Reader(RUN, versioned(config=to_values(RunConfig()), counts={"images": 3}, versions={"ray": "2"}), read_run),
    "status.json": Reader(
        STATUS,
        versioned(command="label", state="failed", reason="x", host="h", pid=7, started=NOW, written=NOW, stages=[STAGE]),
        lambda run, _: print_status(run, None, console()),
    ),
    "timings": Reader(
        "timings/match.json",
        versioned(**{**asdict(StageSummary("match", 9, 8, 1, 2.5, {"images read": 3}, 1.5, 0.5)), "counted": 8, "all_computed": 8}),
        read_timings,
    ),
    "last meshes": Reader(
        "timings/orient.json", versioned(stage="orient", recipe="r1", upstream={"reconstruct": "r2"}), lambda run, _: meshes(run)
    ),
    "last labels": Reader("timings/label.json", versioned(stage="label", recipe="r1"), lambda run, _: last_recipe(run)),
    "metrics.json": Reader(METRICS_FILE, METRICS, read_evaluation),
    "sweeps/labels.json": Reader(FOUND_LABELS, LABELS, read_search),
    "sweeps/cycles.json": Reader(FOUND_CYCLES, CYCLES, read_search),
    "sweeps/adapter.json": Reader(FOUND_ADAPTER, TRIALS, read_search),
    "sweeps/best.yaml": Reader(BEST_LABELS, {"match": {"alpha": 0.5}, "label": {"tau_cc": 0.05}}, read_search, is_yaml=True),
    "batch": Reader(
        "sweeps/adapter-a/batch-00.json",
        versioned(trials=[{"trial_id": "a", "settings": {"train.noise": 0.5}, "curve": [[2, 0.25, 1.0]], "error": None}]),
        lambda run, _: rank_trials(finished_trials(run, "sweeps/adapter-a")),
    ),
    "begun.json": Reader("a/begun.json", versioned(id="0123456789abcdef" * 2), lambda run, _: tune_state(run, "a")),
    "curve.json": Reader("curve.json", [[2, 0.25, 1.0]], lambda run, name: parsed_json(Curve, run.read_bytes(name), name)),
    "claim": Reader("lease/00000001.claim", asdict(Claim.of_this_process("token", 10.0)), read_lease),
    "beat": Reader("lease/00000001.beat", asdict(Beat.of_now("token", 3, False)), read_lease),
    "origin": Reader("labels/r.json", versioned(origin="made by hand"), lambda run, name: read_parsed(run, name, OriginNote)),
    "export.json": Reader(JOURNAL, versioned(**STATE.to_json()), read_journal),
    "plan": Reader("plan", {"car": "key"}, lambda run, name: parsed_json(dict[str, str], run.read_bytes(name), name)),
    "adapter's header": Reader("header", {"__metadata__": {"sc3d.adapter": json.dumps(TRAINED)}}, read_header),
    "adapter's metadata": Reader("metadata", TRAINED, read_metadata),
}

ATOMS = st.sampled_from(
    [
        *(None, True, -1, 0, 1, 2**63, -(2**63), 10**400, 1e308, 5e-324, float("nan"), float("inf"), -0.0, [], {}, [[]], {"": {}}),
        *("", "x", "[/b]", "a[/b]", "\x1b[2J", "\u202e", "\ud800", "é", "NaN", "1e999", "0", "x" * 5000, "2031-01-01", "1:30", NOW),
        *("2031-01-01T00:00:00", "!!python/object:os.system x", "*a", [None] * 300, {"low": 1}, [0.5, 1]),
    ]
)


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


VALUES = (
    ATOMS
    | st.builds(nested, st.sampled_from([20, 31, 33, 60, 300]))
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    )
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(value, dict):
        found += [place for key, part in value.items() for place in places(part, (*path, key))]
    elif isinstance(value, list):
        found += [place for i, part in enumerate(value[:6]) for place in places(part, (*path, i))]
    return found


def changed(content: Any, place: tuple[Any, ...], how: str, value: Any) -> Any:
    """Content with the value at a place replaced, removed, renamed, doubled, or put into a list."""
    if not place:
        return value if how != "wrap" else [content]
    content = json.loads(json.dumps(content)) if not isinstance(content, str) else content
    inner = content
    for part in place[:-1]:
        inner = inner[part]
    last = place[-1]
    if how == "remove":
        del inner[last]
    elif how == "rename" and isinstance(inner, dict):
        inner[str(value)[:9]] = inner.pop(last)
    elif how == "double" and isinstance(inner, list):
        inner.append(inner[last])
    elif how == "wrap":
        inner[last] = [inner[last]]
    else:
        inner[last] = value
    return content


@st.composite
def broken(draw: st.DrawFn, reader: Reader) -> bytes:
    """A file that was changed at up to three places, and perhaps in its bytes."""
    content = reader.content
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.sampled_from(places(content)))
        how = draw(st.sampled_from(["replace", "replace", "remove", "rename", "double", "wrap"]))
        content = changed(content, place, how, draw(VALUES))
    data = reader.encoded(content)
    how = draw(
        st.sampled_from(["whole"] * 6 + ["cut", "flip", "insert", "latin-1", "utf-16", "bom", "twice", "deep", "digits", "lines"])
    )
    at = draw(st.integers(0, len(data)))
    if how == "cut":
        return data[:at]
    if how in ("flip", "insert"):
        return data[:at] + draw(st.binary(max_size=4)) + data[at + (how == "flip") :]
    if how in ("latin-1", "utf-16"):
        return (data.decode("utf-8", "replace") + "é").encode(how, "replace")
    if how == "deep":
        return data[:at] + draw(st.sampled_from([b"[", b'{"a":', b"- "])) * 3000 + data[at:]
    if how == "digits":
        return data[:at] + b"9" * 6000 + data[at:]
    if how == "lines":
        return data + draw(
            st.sampled_from([b"\n<<: *a\n", b"\na: &a [*a]\n", b"\n? [1]\n: 2\n", b"\nx: !!binary x\n", b"\nx: 0b_\n"])
        )
    return {"bom": b"\xef\xbb\xbf" + data, "twice": data * 2}.get(how, data)


def outcome(reader: Reader, data: bytes, folder: Path) -> str:
    """Read a broken file as the program would: the type of its error, or "right"."""
    path = folder / reader.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    try:
        reader.read(RunFolder(folder), reader.name)
    except Sc3dError as error:
        return type(error).__name__
    return "right"


def prepared(name: str, folder: Path) -> None:
    """What else a reader's folder holds."""
    for other in (FOUND_LABELS, FOUND_ADAPTER, "sweeps/best.yaml") if name.startswith("sweeps/") else ():
        path = folder / other
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(READERS[other].encoded(READERS[other].content))
    if name.startswith("sweeps/"):
        (folder / BEST_ADAPTER).write_text("train: {noise: 0.5}\n")
        (folder / BEST_CYCLES).write_text("label: {tau_geo: 0.05}\n")


def fuzz(name: str, folder: Path, examples: int) -> None:
    reader = READERS[name]
    prepared(name, folder)

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(broken(reader))
    def holds(data: bytes) -> None:
        outcome(reader, data, folder)

    holds()


@pytest.mark.parametrize("name", READERS)
def test_what_the_program_writes_is_read(name: str, tmp_path: Path) -> None:
    prepared(name, tmp_path)
    reader = READERS[name]
    assert outcome(reader, reader.encoded(reader.content), tmp_path) == "right"


@pytest.mark.parametrize(
    ("name", "place", "value", "field"),
    [
        ("sweeps/adapter.json", ("rows", 0, "curve"), [], "no validation"),
        ("sweeps/adapter.json", ("rows", 0, "settings", "train.noise"), 7.0, r"train\.noise = 7\.0 .* outside of the space"),
        ("sweeps/adapter.json", ("space", "train.noise", "low"), 0, r"space\.train\.noise is no range"),
        ("sweeps/adapter.json", ("space", "train.noise", "high"), 0.1, r"space\.train\.noise is no range"),
        ("sweeps/labels.json", ("rows",), [], "rows"),
        ("sweeps/labels.json", ("rows", 0, "alpha"), 0.75, r"rows\.0: .*add up to 1"),
        ("sweeps/labels.json", ("steps",), 10**9, "steps"),
        ("metrics.json", ("pck", 0, "value"), 1.5, r"pck\.0\.value"),
        ("run.json", ("config", "dataset"), [], r"config\.dataset|dataset"),
        ("batch", ("trials", 0, "curve", 0), [1, 2], r"trials\.0\.curve\.0"),
        ("adapter's metadata", ("sources",), "a", "sources"),
    ],
)
def test_what_does_not_fit_together_is_named(name: str, place: tuple[Any, ...], value: Any, field: str, tmp_path: Path) -> None:
    prepared(name, tmp_path)
    reader = READERS[name]
    path = tmp_path / reader.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(reader.encoded(changed(reader.content, place, "replace", value)))
    with pytest.raises(Sc3dError, match=field):
        reader.read(RunFolder(tmp_path), reader.name)


@pytest.mark.parametrize(
    "change", [{"images": 10**12}, {"images": 17}, {"seen": "AAAA"}, {"counts": {"car": {"trn": {"histogram": [1]}}}}]
)
def test_a_journal_that_does_not_fit_together_is_none_of_ours(change: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text(json.dumps({**READERS["export.json"].content, **change}))
    with pytest.raises(StoreError, match="holds an export of other labels"):
        READERS["export.json"].read(RunFolder(tmp_path), JOURNAL)


@pytest.mark.parametrize("name", READERS)
def test_a_broken_text_is_an_error_for_a_person_or_none(name: str, tmp_path: Path) -> None:
    fuzz(name, tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", READERS)
def test_ten_thousand_broken_texts_are(name: str, tmp_path: Path) -> None:
    fuzz(name, tmp_path, MANY)
