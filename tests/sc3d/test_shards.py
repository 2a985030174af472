"""Shards: named by content, planned the same from any order, and no id is computed twice, however often a run is killed or replanned."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d.artefacts import KEPT, MISSING, REJECTED, Artefacts, read_from
from sc3d.errors import DamagedFileError, SchemaError
from sc3d.records import Orientation, Reject
from sc3d.shards import COUNTED, Shard, cut_shards, item_table, missing_shards, recipe_of, shard_name
from sc3d.store import RunFolder

items = st.lists(st.tuples(st.sampled_from(["bus", "car", "tv set"]), st.uuids().map(str)), unique_by=lambda i: i[1], max_size=40)


def by_fours(items: pa.Table) -> list[Shard]:
    return cut_shards(items, 4)


def numbered(*numbers: int) -> pa.Table:
    return item_table([("car", f"i{n:02}") for n in numbers])


def orientation(image_id: str) -> Orientation:
    return Orientation(image_id, "car", 0, [0] * 8, False)  # type: ignore[arg-type]


@pytest.fixture
def artefacts(tmp_path: Path) -> Artefacts:
    return Artefacts(RunFolder(tmp_path), "orient", "orientations", "recipe", Orientation, "image_id", by_category=True)


@given(items, st.integers(1, 7), st.randoms())
def test_a_plan_covers_each_id_once_whatever_the_order(pairs: list[tuple[str, str]], size: int, random: object) -> None:
    plan = cut_shards(item_table(pairs), size)
    assert sorted((s.category, i) for s in plan for i in s.ids) == sorted(pairs)
    assert all(1 <= len(s.ids) <= size for s in plan)
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert cut_shards(item_table(shuffled), size) == plan


def test_names_are_functions_of_content() -> None:
    assert shard_name(["b", "a"]) == shard_name(["a", "b"]) != shard_name(["a", "c"])
    assert recipe_of("match", {"a": 1, "b": 2}) == recipe_of("match", {"b": 2, "a": 1})
    assert len({recipe_of("match", {"a": 1}), recipe_of("match", {"a": 2}), recipe_of("label", {"a": 1})}) == 3


def test_an_id_that_occurs_twice_is_refused() -> None:
    with pytest.raises(SchemaError, match="'x' occurs twice"):
        cut_shards(item_table([("car", "x"), ("bus", "x")]), 4)


def counted(*ids: str, **inputs: str) -> pa.Table:
    """Ids that count, made of nothing in particular or of ``inputs``."""
    return pa.table([list(ids), [inputs.get(id_, "") for id_ in ids]], schema=COUNTED)


def commit(artefacts: Artefacts, shard: Shard) -> None:
    artefacts.commit(shard, [orientation(i) for i in shard.ids], [])


def remaining_shards(planned: list[Shard], artefacts: Artefacts, plan: Callable[[pa.Table], list[Shard]]) -> list[Shard]:
    wanted = counted(*(id_ for shard in planned for id_ in shard.ids))
    states = artefacts.standing(wanted).state
    return missing_shards(planned, wanted["id"].filter(pa.array(states != MISSING)), plan)


def rows(artefacts: Artefacts) -> list[str]:
    """All ids that are written, each as often as it is written."""
    return sorted(r.image_id for name in artefacts.files() for r in artefacts.run.read_records(Orientation, name))


def test_resume_computes_what_is_missing_and_nothing_else(artefacts: Artefacts) -> None:
    plan = by_fours(numbered(*range(10)))
    assert remaining_shards(plan, artefacts, by_fours) == plan
    commit(artefacts, plan[0])
    assert remaining_shards(plan, artefacts, by_fours) == plan[1:]
    for shard in plan[1:]:
        commit(artefacts, shard)
    assert remaining_shards(plan, artefacts, by_fours) == []
    ids = numbered(*range(10))["id"].to_pylist()
    assert [r.image_id for r in artefacts.catalogue(counted(*ids)).read_all()] == ids


def test_images_added_later_do_not_recompute_the_others(artefacts: Artefacts) -> None:
    for shard in by_fours(numbered(*range(8))):
        artefacts.commit(shard, [orientation(i) for i in shard.ids[1:]], [Reject(shard.ids[0], "orient", "E", "m")])
    grown = item_table([("car", "a_new_one"), *zip(["car"] * 8, numbered(*range(8))["id"].to_pylist(), strict=True)])
    assert [s.ids for s in remaining_shards(by_fours(grown), artefacts, by_fours)] == [("a_new_one",)]


def test_what_is_left_of_partly_done_shards_is_planned_anew_and_untouched_shards_stay(artefacts: Artefacts) -> None:
    for shard in cut_shards(numbered(1, 2, 5, 6), 2):
        commit(artefacts, shard)
    left = remaining_shards(by_fours(numbered(*range(12))), artefacts, by_fours)
    assert [s.ids for s in left] == [("i08", "i09", "i10", "i11"), ("i00", "i03", "i04", "i07")]


@given(data=st.data())
def test_changing_manifest_size_and_plan_loses_and_doubles_nothing(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = RunFolder(tmp_path_factory.mktemp("run"))
    artefacts = Artefacts(run, "orient", "orientations", "recipe", Orientation, "image_id", by_category=True)
    wanted: list[int] = []
    for last in (False, False, True):
        added = data.draw(st.lists(st.integers(0, 30), unique=True, max_size=12))
        wanted = sorted({*data.draw(st.permutations(wanted)), *added})
        size, backwards = data.draw(st.integers(1, 5)), data.draw(st.booleans())

        def plan(items: pa.Table, size: int = size, backwards: bool = backwards) -> list[Shard]:
            shards = cut_shards(items, size)
            halves = [Shard(s.category, part) for s in shards for part in (s.ids[::2], s.ids[1::2]) if part]
            return halves[::-1] if backwards else shards

        left = remaining_shards(plan(numbered(*wanted)), artefacts, plan)
        for shard in left if last else left[: data.draw(st.integers(0, len(left)))]:
            commit(artefacts, shard)
    assert rows(artefacts) == numbered(*wanted)["id"].to_pylist()


def test_it_is_known_what_became_of_each_id_and_which_file_holds_it(artefacts: Artefacts) -> None:
    plan = by_fours(numbered(*range(8)))
    commit(artefacts, plan[0])
    artefacts.commit(plan[1], [orientation(i) for i in plan[1].ids[:3]], [Reject("i07", "orient", "E", "m")])
    wanted = counted(*numbered(5, 77, 1, 7, 0)["id"].to_pylist())
    standing = artefacts.standing(wanted)
    assert standing.state.tolist() == [KEPT, MISSING, KEPT, REJECTED, KEPT]
    files = [artefacts.file(shard) for shard in plan]
    assert [standing.files_of(np.array([row])) for row in range(5)] == [(files[1],), (), (files[0],), (), (files[0],)]
    assert standing.files_of(np.array([0, 2, 4])) == tuple(sorted(files))
    catalogue = artefacts.catalogue(wanted)
    assert catalogue.among(numbered(5, 77, 1))["id"].to_pylist() == ["i05", "i01"]
    assert "i05" in catalogue
    assert "i77" not in catalogue
    assert "i02" not in catalogue, "it is there, and nobody wants it"
    assert (len(catalogue), len(catalogue.file_of_others)) == (3, 4)


def test_a_finished_shard_answers_for_exactly_its_ids(artefacts: Artefacts) -> None:
    shard = Shard("car", ("i0", "i1"))
    assert artefacts.finished(shard) is None
    artefacts.commit(shard, [orientation("i1")], [Reject("i0", "orient", "E", "m")])
    assert artefacts.finished(shard) == [REJECTED, KEPT]
    artefacts.forget_rejects()
    assert artefacts.finished(shard) is None


def test_forgotten_rejects_are_tried_again_and_their_attempts_are_counted(artefacts: Artefacts) -> None:
    shards = [Shard("car", ("i0", "i1")), Shard("car", ("i2",))]
    artefacts.commit(shards[0], [orientation("i1")], [Reject("i0", "orient", "E", "m")])
    artefacts.commit(shards[1], [], [Reject("i2", "orient", "E", "m")])
    wanted, ids = numbered_ids("i0", "i1", "i2"), counted("i0", "i1", "i2")
    assert remaining_shards(by_fours(wanted), artefacts, by_fours) == []
    for attempts in (2, 3):
        assert artefacts.forget_rejects() == 2
        assert artefacts.rejects(ids) == []
        (again,) = remaining_shards(by_fours(wanted), artefacts, by_fours)
        assert again.ids == ("i0", "i2")
        fresh = Artefacts(artefacts.run, "orient", "orientations", "recipe", Orientation, "image_id", by_category=True)
        fresh.commit(again, [], [Reject(i, "orient", "E", "m") for i in again.ids])
        assert {(r.id, r.attempts) for r in fresh.rejects(ids)} == {("i0", attempts), ("i2", attempts)}
    fresh.forget_rejects()
    commit(fresh, again)
    assert rows(artefacts) == ["i0", "i1", "i2"]


def numbered_ids(*ids: str) -> pa.Table:
    return item_table([("car", i) for i in ids])


def test_a_shard_killed_between_its_rejects_and_its_rows_is_done_again(artefacts: Artefacts) -> None:
    shard = Shard("car", ("i0", "i1"))
    artefacts.run.write_records(Reject, artefacts.reject_file(shard), [Reject("i0", "orient", "E", "m")])
    assert remaining_shards([shard], artefacts, by_fours) == [shard]
    assert artefacts.rejects(counted(*shard.ids)) == []
    artefacts.commit(shard, [orientation("i0"), orientation("i1")], [])
    assert artefacts.rejects(counted(*shard.ids)) == []
    assert not artefacts.run.exists(artefacts.reject_file(shard))


def test_a_shard_cut_short_by_hand_is_found_and_done_again(artefacts: Artefacts) -> None:
    shard = Shard("car", ("i0", "i1"))
    artefacts.commit(shard, [orientation("i0"), orientation("i1")], [])
    whole = artefacts.run.read_bytes(artefacts.file(shard))
    artefacts.run.write_bytes(artefacts.file(shard), whole[:-20])
    assert artefacts.finished(shard) is None
    # Whoever only reads leaves it where it is, and can know that something is missing.
    catalogue = artefacts.catalogue(counted(*shard.ids))
    assert (len(catalogue), catalogue.damaged) == (0, (artefacts.file(shard),))
    with pytest.raises(DamagedFileError, match=f"{shard.name}.parquet is damaged"):
        catalogue.refuse_damaged()
    assert artefacts.run.exists(artefacts.file(shard))
    assert remaining_shards([shard], artefacts, by_fours) == [shard]
    assert not artefacts.run.exists(artefacts.file(shard))
    commit(artefacts, shard)
    artefacts.catalogue(counted(*shard.ids)).refuse_damaged()


def test_a_shard_of_rejects_alone_is_finished(artefacts: Artefacts) -> None:
    shard = Shard("car", ("i0",))
    artefacts.commit(shard, [], [Reject("i0", "orient", "InputError", "broken")])
    assert remaining_shards([shard], artefacts, by_fours) == []
    assert [r.id for r in artefacts.rejects(counted("i0"))] == ["i0"]
    assert artefacts.rejects(counted("i1")) == []


def test_rows_and_rejects_made_of_something_else_do_not_count(artefacts: Artefacts) -> None:
    old, new = (Shard("car", ("i0", "i1"), (f"{when} photo", "same photo")) for when in ("old", "new"))
    assert old.name != new.name
    artefacts.commit(old, [orientation("i0")], [Reject("i1", "orient", "E", "m")])
    before, after = (counted("i0", "i1", i0=f"{when} photo", i1="same photo") for when in ("old", "new"))
    assert artefacts.standing(before).state.tolist() == [KEPT, REJECTED]
    assert artefacts.standing(after).state.tolist() == [MISSING, REJECTED]
    assert artefacts.catalogue(after).read_all() == []
    assert artefacts.rejects(counted("i0", "i1", i1="another photo")) == []
    artefacts.commit(Shard("car", ("i0",), ("new photo",)), [orientation("i0").replace(turn=90)], [])
    assert [row.turn for row in artefacts.catalogue(after).read_all()] == [90]
    # What was made before is still there for the photo of before.
    assert [row.turn for row in artefacts.catalogue(before).read_all()] == [0]


def test_an_id_that_is_there_twice_counts_once(artefacts: Artefacts) -> None:
    for ids in (("i0", "i1"), ("i1", "i2")):
        commit(artefacts, Shard("car", ids))
    catalogue = artefacts.catalogue(counted("i0", "i1", "i2"))
    assert sorted(catalogue.ids.to_pylist()) == ["i0", "i1", "i2"]
    assert len(catalogue.file_of_others) == 1
    assert sorted(catalogue.columns(["image_id"])["image_id"].to_pylist()) == ["i0", "i1", "i2"]
    assert [row.image_id for row in catalogue.read_all()] == ["i0", "i1", "i2"]


def test_what_counts_has_a_hash_that_does_not_depend_on_its_files(artefacts: Artefacts, tmp_path: Path) -> None:
    other = dataclasses.replace(artefacts, run=RunFolder(tmp_path / "other"))
    commit(artefacts, Shard("car", ("i0", "i1", "i2")))
    for id_ in ("i2", "i0", "i1"):
        commit(other, Shard("car", (id_,)))
    found = [one.catalogue(counted("i0", "i1", "i2")).fingerprint() for one in (artefacts, other)]
    assert found[0] == found[1] != artefacts.catalogue(counted("i0", "i1")).fingerprint()


def test_a_catalogue_can_be_narrowed_to_categories(artefacts: Artefacts) -> None:
    commit(artefacts, Shard("car", ("i0", "i1")))
    artefacts.commit(Shard("tv set", ("i2",)), [orientation("i2").replace(category="tv set")], [])
    catalogue = artefacts.catalogue(counted("i0", "i1", "i2"))
    assert catalogue.within(()) is catalogue
    assert [row.image_id for row in catalogue.within(["tv set"]).read_all()] == ["i2"]
    assert [row.image_id for row in catalogue.within(["car", "bus"]).read_all()] == ["i0", "i1"]
    assert catalogue.within(["bus"]).read_all() == []


def test_a_worker_finds_the_rows_of_a_shard_in_the_files_that_it_is_told(artefacts: Artefacts) -> None:
    artefacts.commit(Shard("car", ("i0", "i1"), ("old", "old")), [orientation("i0"), orientation("i1")], [])
    artefacts.commit(Shard("car", ("i0",), ("new",)), [orientation("i0").replace(turn=180)], [])
    files = artefacts.files()
    found = read_from(artefacts, files, {"i0": "new", "i1": "old"})
    assert {id_: row.turn for id_, row in found.items()} == {"i0": 180, "i1": 0}
    assert read_from(artefacts, [], {"i0": "new"}) == {}
