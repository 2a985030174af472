"""What a stage keeps: finished shards are found with all that they hold, and what was cut short, damaged or forgotten is missing again."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from orientation_shards import artefacts_in, clean, commit, orientation, reject, wanted

from sc3d.artefacts import KEPT, MISSING, REJECTED, Artefacts, category_of, read_from
from sc3d.errors import DamagedFileError
from sc3d.records import Reject
from sc3d.shards import COUNTED, Shard, item_table
from sc3d.store import RunFolder
from sc3d.store_disk import DiskStore

ALL = wanted(*"abcdefgh")


@pytest.fixture
def artefacts(tmp_path: Path) -> Artefacts:
    return artefacts_in(RunFolder(tmp_path))


def afresh(artefacts: Artefacts) -> Artefacts:
    """As another process sees them."""
    return dataclasses.replace(artefacts)


def states(artefacts: Artefacts, *ids: str) -> list[int]:
    found: list[int] = artefacts.standing(wanted(*ids)).state.tolist()
    return found


def cut_short(artefacts: Artefacts, name: str) -> None:
    artefacts.run.write_bytes(name, artefacts.run.read_bytes(name)[:-20])


def test_nothing_is_known_of_a_run_that_has_not_begun(artefacts: Artefacts) -> None:
    catalogue = artefacts.catalogue(ALL)
    assert (artefacts.files(), artefacts.rejects(ALL), catalogue.read_all(), catalogue.read(["a"])) == ([], [], [], {})
    assert states(artefacts, "a") == [MISSING]
    assert artefacts.forget_rejects() == 0


def test_what_is_committed_is_found(artefacts: Artefacts) -> None:
    artefacts.commit(Shard("car", ("a", "b")), [orientation("b", 90), orientation("a", 180)], [])
    commit(artefacts, "c", category="tv set")
    catalogue = artefacts.catalogue(ALL)
    assert sorted(catalogue.ids.to_pylist()) == ["a", "b", "c"]
    assert [(row.image_id, row.turn) for row in catalogue.read_all()] == [("a", 180), ("b", 90), ("c", 0)]
    assert {id_: row.turn for id_, row in catalogue.read(["b", "unknown"]).items()} == {"b": 90}
    assert "a" in catalogue
    assert "unknown" not in catalogue
    items = item_table([("car", "unknown"), ("tv set", "c"), ("car", "a")])
    assert catalogue.among(items)["id"].to_pylist() == ["c", "a"]


def test_a_shard_that_is_written_again_is_there_once(artefacts: Artefacts) -> None:
    for turn in (0, 90):
        artefacts.commit(Shard("car", ("a",)), [orientation("a", turn)], [])
    assert [row.turn for row in artefacts.catalogue(ALL).read_all()] == [90]
    assert len(artefacts.files()) == 1


def test_recipes_do_not_see_each_other(tmp_path: Path) -> None:
    one, other = artefacts_in(RunFolder(tmp_path), "one"), artefacts_in(RunFolder(tmp_path), "other")
    commit(one, "a", rejected=("b",))
    assert states(other, "a", "b") == [MISSING, MISSING]
    assert other.rejects(ALL) == []
    other.forget_rejects()
    assert states(one, "a", "b") == [KEPT, REJECTED]


def test_categories_are_folders_that_other_programs_understand(artefacts: Artefacts, tmp_path: Path) -> None:
    car, tv = commit(artefacts, "a", "b"), commit(artefacts, "c", category="tv set")
    assert artefacts.files() == [
        f"orientations/recipe/category=car/{car.name}.parquet",
        f"orientations/recipe/category=tv set/{tv.name}.parquet",
    ]
    files = pyarrow.dataset.dataset(tmp_path / artefacts.prefix, partitioning="hive")
    one = files.to_table(filter=pyarrow.dataset.field("category") == "tv set")
    assert one["image_id"].to_pylist() == ["c"]


@pytest.mark.parametrize("where", ["disk", "bucket"])
def test_categories_of_any_script_are_folders_and_keys(where: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    run = RunFolder(tmp_path if where == "disk" else f"{request.getfixturevalue('bucket')}/run")
    artefacts, name = artefacts_in(run), "Автобус 車"
    shard = commit(artefacts, "a", "b", category=name)
    assert artefacts.files() == [f"orientations/recipe/category={name}/{shard.name}.parquet"]
    assert [category_of(file) for file in artefacts.files()] == [name]
    assert {row.category for row in artefacts.catalogue(ALL).read_all()} == {name}
    if where == "disk":
        files = pyarrow.dataset.dataset(tmp_path / artefacts.prefix, partitioning="hive")
        assert files.to_table(filter=pyarrow.dataset.field("category") == name)["image_id"].to_pylist() == ["a", "b"]
        query = "select distinct category from read_parquet(?, hive_partitioning = true)"
        assert duckdb.execute(query, [f"{tmp_path}/{artefacts.prefix}/**/*.parquet"]).fetchall() == [(name,)]


def test_without_categories_all_shards_are_in_one_folder(tmp_path: Path) -> None:
    artefacts = artefacts_in(RunFolder(tmp_path), by_category=False)
    shard = commit(artefacts, "a", rejected=("b",))
    assert artefacts.files() == [f"orientations/recipe/{shard.name}.parquet"]
    assert states(artefacts, "a", "b") == [KEPT, REJECTED]


def test_a_damaged_shard_is_missing_and_named(artefacts: Artefacts) -> None:
    damaged, whole = commit(artefacts, "a", "b"), commit(artefacts, "c")
    cut_short(artefacts, artefacts.file(damaged))
    catalogue = artefacts.catalogue(ALL)
    assert catalogue.ids.to_pylist() == ["c"]
    assert catalogue.read(["a", "c"]).keys() == {"c"}
    assert catalogue.damaged == (artefacts.file(damaged),)
    assert catalogue.files_used == (artefacts.file(whole),)
    with pytest.raises(DamagedFileError, match=damaged.name):
        catalogue.refuse_damaged()
    assert states(artefacts, "a", "b", "c") == [MISSING, MISSING, KEPT]
    commit(artefacts, "a", "b")
    assert states(artefacts, "a", "b", "c") == [KEPT, KEPT, KEPT]


def test_the_rejects_of_a_damaged_shard_do_not_count_either(artefacts: Artefacts) -> None:
    shard = commit(artefacts, "a", rejected=("b",))
    cut_short(artefacts, artefacts.file(shard))
    assert states(artefacts, "a", "b") == [MISSING, MISSING]
    assert artefacts.rejects(ALL) == []


def test_a_damaged_shard_does_not_answer_for_its_ids(artefacts: Artefacts) -> None:
    shard = commit(artefacts, "a", "b")
    cut_short(artefacts, artefacts.file(shard))
    assert artefacts.finished(shard) is None


def test_the_rejects_of_an_unfinished_shard_do_not_count(artefacts: Artefacts) -> None:
    shard = Shard("car", ("a", "b"))
    artefacts.run.write_records(Reject, artefacts.reject_file(shard), [reject("b")])
    assert artefacts.rejects(ALL) == []
    assert states(artefacts, "a", "b") == [MISSING, MISSING]
    assert artefacts.forget_rejects() == 0
    artefacts.commit(shard, [orientation("a"), orientation("b")], [])
    assert states(artefacts, "a", "b") == [KEPT, KEPT]
    assert not artefacts.run.exists(artefacts.reject_file(shard)), "what was left of the first try is gone"


def test_the_rows_of_a_shard_are_written_last(artefacts: Artefacts, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: DiskStore, path: str, *arguments: Any) -> None:
        if "/orientations/" in path:
            raise KeyboardInterrupt
        write(self, path, *arguments)

    write = DiskStore.write
    with monkeypatch.context() as patch:
        patch.setattr(DiskStore, "write", fail)
        with pytest.raises(KeyboardInterrupt):
            commit(artefacts, "a", rejected=("b",))
    assert artefacts.run.names("rejects")
    assert states(artefacts, "a", "b") == [MISSING, MISSING]


def test_it_is_known_what_became_of_each_id_and_which_file_holds_it(artefacts: Artefacts) -> None:
    first, second = commit(artefacts, "a", "b"), commit(artefacts, "c", rejected=("d",))
    standing = artefacts.standing(wanted("c", "unknown", "b", "d", "a"))
    assert standing.state.tolist() == [KEPT, MISSING, KEPT, REJECTED, KEPT]
    files = {"first": artefacts.file(first), "second": artefacts.file(second)}
    of_each = [standing.files_of(np.array([row])) for row in range(5)]
    assert of_each == [(files["second"],), (), (files["first"],), (), (files["first"],)]
    assert standing.files_of(np.arange(5)) == tuple(sorted(files.values()))


def test_an_id_that_was_rejected_once_and_kept_later_is_kept(artefacts: Artefacts) -> None:
    commit(artefacts, "a", rejected=("b",))
    commit(artefacts, "b")
    assert states(artefacts, "a", "b") == [KEPT, KEPT]


@given(st.lists(st.sampled_from([KEPT, REJECTED, MISSING]), max_size=12), st.integers(1, 4), st.randoms())
def test_standing_is_what_was_committed_whatever_the_shards_and_the_order(
    tmp_path_factory: pytest.TempPathFactory, states_: list[int], size: int, random: Any
) -> None:
    artefacts = artefacts_in(RunFolder(tmp_path_factory.mktemp("run")))
    became = {f"i{number:02}": state for number, state in enumerate(states_)}
    ids = [id_ for id_, state in became.items() if state != MISSING]
    for start in range(0, len(ids), size):
        part = ids[start : start + size]
        kept, rejected = ([id_ for id_ in part if became[id_] == state] for state in (KEPT, REJECTED))
        commit(artefacts, *kept, rejected=tuple(rejected))
    asked = list(became)
    random.shuffle(asked)
    standing = artefacts.standing(wanted(*asked))
    assert standing.state.tolist() == [became[id_] for id_ in asked]
    assert (standing.file >= 0).tolist() == [became[id_] == KEPT for id_ in asked]
    for row, id_ in enumerate(asked):
        found = [key for name in standing.files_of(np.array([row])) for key in read_from(artefacts, [name], {id_: ""})]
        assert found == ([id_] if became[id_] == KEPT else [])


def test_a_finished_shard_answers_for_exactly_its_ids(artefacts: Artefacts) -> None:
    shard = Shard("car", ("b", "a"))
    assert artefacts.finished(shard) is None
    commit(artefacts, "a", rejected=("b",))
    assert artefacts.finished(shard) == [REJECTED, KEPT]
    artefacts.forget_rejects()
    assert artefacts.finished(shard) is None


def test_a_shard_of_rejects_alone_is_finished(artefacts: Artefacts) -> None:
    assert artefacts.finished(commit(artefacts, rejected=("a",))) == [REJECTED]
    assert [one.id for one in artefacts.rejects(ALL)] == ["a"]


def test_a_shard_of_rejects_alone_is_left_over_when_none_of_them_counts(artefacts: Artefacts) -> None:
    file = artefacts.file(commit(artefacts, rejected=("a", "b")))
    for counted, expected in ((wanted("b"), []), (wanted("b", inputs="another photo"), [file]), (wanted("c"), [file])):
        assert artefacts.left_over(artefacts.catalogue(counted)) == (expected, [])


def test_forgotten_rejects_are_missing_and_their_attempts_are_counted(artefacts: Artefacts) -> None:
    commit(artefacts, "a", rejected=("b",))
    commit(artefacts, rejected=("c",))
    for tried in (1, 2, 3):
        assert {(one.id, one.attempts) for one in artefacts.rejects(ALL)} == {("b", tried), ("c", tried)}
        assert artefacts.forget_rejects() == 2
        assert artefacts.rejects(ALL) == []
        assert states(artefacts, "a", "b", "c") == [KEPT, MISSING, MISSING]
        artefacts = afresh(artefacts)
        commit(artefacts, rejected=("b", "c"))
    assert artefacts.forget_rejects() == 2
    commit(artefacts, "b", rejected=("c",))
    assert states(artefacts, "a", "b", "c") == [KEPT, KEPT, REJECTED]


def test_an_id_that_was_never_rejected_begins_to_count_at_one(artefacts: Artefacts) -> None:
    commit(artefacts, rejected=("a",))
    artefacts.forget_rejects()
    artefacts = afresh(artefacts)
    commit(artefacts, rejected=("a", "b"))
    assert {(one.id, one.attempts) for one in artefacts.rejects(ALL)} == {("a", 2), ("b", 1)}


@pytest.mark.parametrize("deletions", [0, 1, 2])
def test_forgetting_that_is_cut_short_is_finished_by_the_next_call(
    artefacts: Artefacts, monkeypatch: pytest.MonkeyPatch, deletions: int
) -> None:
    for id_ in ("a", "b", "c"):
        commit(artefacts, rejected=(id_,))
    delete, left = DiskStore.delete, iter(range(deletions))

    def fail(self: DiskStore, path: str) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        delete(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(DiskStore, "delete", fail)
        with pytest.raises(KeyboardInterrupt):
            artefacts.forget_rejects()
    assert states(artefacts, "a", "b", "c").count(REJECTED) == 3 - deletions
    artefacts = afresh(artefacts)
    assert artefacts.forget_rejects() == 3 - deletions
    assert states(artefacts, "a", "b", "c") == [MISSING] * 3
    artefacts = afresh(artefacts)
    commit(artefacts, rejected=("a", "b", "c"))
    assert {one.attempts for one in artefacts.rejects(ALL)} == {2}, "each was tried twice, whenever its reject was forgotten"


def test_reading_some_ids_reads_each_file_that_holds_one_once(artefacts: Artefacts, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (commit(artefacts, *ids) for ids in (("a", "b", "c"), ("d", "e"), ("f",)))
    catalogue = artefacts.catalogue(ALL)
    opened: Counter[str] = Counter()
    read = DiskStore.read

    def counted(self: DiskStore, path: str, max_bytes: int | None = None) -> bytes:
        opened[path.rpartition("/")[2]] += 1
        return read(self, path, max_bytes)

    monkeypatch.setattr(DiskStore, "read", counted)
    assert catalogue.read(["d", "a", "e", "c", "unknown"]).keys() == {"a", "c", "d", "e"}
    assert opened == {f"{first.name}.parquet": 1, f"{second.name}.parquet": 1}
    opened.clear()
    assert [row.image_id for row in catalogue.read_all()] == list("abcdef")
    assert opened == {f"{shard.name}.parquet": 1 for shard in (first, second, third)}


def test_only_the_wanted_records_of_some_files_are_read(artefacts: Artefacts) -> None:
    first, second = commit(artefacts, "a", "b"), commit(artefacts, "c")
    found = read_from(artefacts, [artefacts.file(first)], {"b": "", "c": ""})
    assert {key: row.image_id for key, row in found.items()} == {"b": "b"}
    assert read_from(artefacts, [], {"b": ""}) == {}
    assert read_from(artefacts, [artefacts.file(first), artefacts.file(second)], {}) == {}


def test_rows_that_nobody_wants_or_that_were_made_from_other_inputs_do_not_count(artefacts: Artefacts) -> None:
    for inputs in ("old", "new"):
        shard = Shard("car", ("a", "b", "c"), (inputs,) * 3)
        artefacts.commit(shard, [orientation("a", 90 * (inputs == "new")), orientation("b")], [reject("c")])
    assert len(artefacts.files()) == 2, "what was made from other inputs is another file"
    new = wanted("a", "c", inputs="new")
    catalogue = artefacts.catalogue(new)
    assert {row.image_id: row.turn for row in catalogue.read_all()} == {"a": 90}
    assert len(catalogue.file_of_others) == 3
    assert [(one.id, one.inputs) for one in artefacts.rejects(new)] == [("c", "new")]
    assert artefacts.standing(wanted("a", "b", "c", inputs="newer")).state.tolist() == [MISSING] * 3
    # In either order of the files: of two rows of one id the later would hide the earlier.
    for files in (artefacts.files(), artefacts.files()[::-1]):
        for inputs, expected in (("old", {"a": 0}), ("new", {"a": 90}), ("newer", {})):
            assert {id_: row.turn for id_, row in read_from(artefacts, files, {"a": inputs}).items()} == expected


def test_of_rows_that_are_there_twice_one_counts(artefacts: Artefacts) -> None:
    commit(artefacts, "a", "b")
    commit(artefacts, "b", "c")
    catalogue = artefacts.catalogue(ALL)
    assert sorted(catalogue.ids.to_pylist()) == ["a", "b", "c"]
    assert sorted(catalogue.columns(["image_id"])["image_id"].to_pylist()) == ["a", "b", "c"]
    assert len(catalogue.file_of_others) == 1
    assert catalogue.fingerprint() == dataclasses.replace(catalogue, files=()).fingerprint()


def test_columns_are_those_of_the_catalogue_with_each_file_read_once(artefacts: Artefacts, monkeypatch: pytest.MonkeyPatch) -> None:
    assert artefacts.columns(ALL, ["image_id", "votes"]).to_pydict() == {"image_id": [], "votes": []}
    commit(artefacts, "a", "b")
    commit(artefacts, "b", "c", "d")
    cut_short(artefacts, artefacts.file(commit(artefacts, "e")))
    names = ["turn", "image_id", "votes"]
    expected = artefacts.catalogue(ALL).columns(names)
    assert len(expected) == 4
    reads: list[str] = []
    real = RunFolder.read_table
    monkeypatch.setattr(
        RunFolder, "read_table", lambda self, record, name, *more: reads.append(name) or real(self, record, name, *more)
    )
    found = artefacts.columns(ALL, names)
    assert found.column_names == names
    assert found.sort_by("image_id").to_pydict() == expected.sort_by("image_id").to_pydict()
    assert len(reads) == len(set(reads)) == 3
    assert artefacts.columns(wanted("b", inputs="newer"), names).num_rows == 0


@pytest.mark.parametrize("steps", range(12))
def test_what_counts_of_a_file_is_kept_and_the_rest_goes_also_when_that_is_cut_short(
    artefacts: Artefacts, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    commit(artefacts, "a", "b", rejected=("c", "d"))
    counted, left = wanted("a", "c"), iter(range(steps))
    write, delete = DiskStore.write, DiskStore.delete

    def failing(done: Any) -> Any:
        def step(self: DiskStore, path: str, *arguments: Any) -> None:
            if ("lease/" not in path or path.endswith(".seal")) and next(left, None) is None:
                raise KeyboardInterrupt
            done(self, path, *arguments)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(DiskStore, "write", failing(write))
        patch.setattr(DiskStore, "delete", failing(delete))
        try:
            clean(artefacts, counted)
        except KeyboardInterrupt:
            assert next(left, None) is None
        else:
            assert steps >= 6
    assert artefacts.catalogue(counted).read_all()[0].image_id == "a"
    assert artefacts.standing(counted).state.tolist() == [KEPT, REJECTED]
    clean(artefacts, counted)
    assert artefacts.standing(counted).state.tolist() == [KEPT, REJECTED]
    assert artefacts.standing(wanted("b", "d")).state.tolist() == [MISSING, MISSING]


@pytest.mark.parametrize("unwanted", ["b", "e", "u", "v", "z"])
@pytest.mark.parametrize("rejected", [(), ("d",)])
def test_what_a_call_that_was_cut_short_has_written_is_not_lost_by_the_next(
    artefacts: Artefacts, unwanted: str, rejected: tuple[str, ...]
) -> None:
    """Whichever of the two files comes first: what is kept of the one is what the other holds."""
    commit(artefacts, "a", unwanted, rejected=rejected)
    commit(artefacts, "a", rejected=rejected)
    counted = wanted("a", *rejected)
    clean(artefacts, counted)
    assert artefacts.standing(counted).state.tolist() == [KEPT, *(REJECTED for _ in rejected)]
    assert states(artefacts, unwanted) == [MISSING]


def test_a_reject_of_an_id_that_is_kept_elsewhere_is_not_kept(artefacts: Artefacts) -> None:
    commit(artefacts, "a", "b", rejected=("d",))
    commit(artefacts, "d", rejected=("a",))
    clean(artefacts, wanted("a", "d"))
    assert states(artefacts, "a", "b", "d") == [KEPT, MISSING, KEPT]


def test_what_counts_has_another_hash_when_it_is_made_from_something_else(artefacts: Artefacts) -> None:
    for inputs in ("old", "new"):
        artefacts.commit(Shard("car", ("a",), (inputs,)), [orientation("a")], [])
    found = [artefacts.catalogue(pa.table([["a"], [inputs]], schema=COUNTED)) for inputs in ("old", "new")]
    assert [len(one) for one in found] == [1, 1]
    assert found[0].fingerprint() != found[1].fingerprint()
