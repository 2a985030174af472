"""Shards: named by content, planned the same from any order, and never computing an id twice."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d.errors import SchemaError
from sc3d.records import Orientation, Reject
from sc3d.shards import Artefacts, Shard, plan_shards, recipe_of, remaining_shards, shard_name
from sc3d.store import RunFolder

items = st.lists(st.tuples(st.sampled_from(["bus", "car", "tv set"]), st.uuids().map(str)), unique_by=lambda i: i[1], max_size=40)


def orientation(image_id: str) -> Orientation:
    return Orientation(image_id, "car", 0, [0] * 8, False)  # type: ignore[arg-type]


@pytest.fixture
def artefacts(tmp_path: Path) -> Artefacts:
    return Artefacts(RunFolder(tmp_path), "orient", "orientations", "recipe", Orientation, "image_id", by_category=True)


@given(items, st.integers(1, 7), st.randoms())
def test_a_plan_covers_each_id_once_whatever_the_order(pairs: list[tuple[str, str]], size: int, random: object) -> None:
    plan = plan_shards(pairs, size)
    assert sorted((s.category, i) for s in plan for i in s.ids) == sorted(pairs)
    assert all(1 <= len(s.ids) <= size for s in plan)
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert plan_shards(shuffled, size) == plan


def test_names_are_functions_of_content() -> None:
    assert shard_name(["b", "a"]) == shard_name(["a", "b"]) != shard_name(["a", "c"])
    assert recipe_of("match", {"a": 1, "b": 2}) == recipe_of("match", {"b": 2, "a": 1})
    assert len({recipe_of("match", {"a": 1}), recipe_of("match", {"a": 2}), recipe_of("label", {"a": 1})}) == 3


def test_an_id_that_occurs_twice_is_refused() -> None:
    with pytest.raises(SchemaError, match="'x' occurs twice"):
        plan_shards([("car", "x"), ("car", "x")], 4)


def test_resume_computes_what_is_missing_and_nothing_else(artefacts: Artefacts) -> None:
    plan = plan_shards([("car", f"i{n}") for n in range(10)], 4)
    assert remaining_shards(plan, artefacts) == plan
    artefacts.commit(plan[0], [orientation(i) for i in plan[0].ids], [])
    assert remaining_shards(plan, artefacts) == plan[1:]
    for shard in plan[1:]:
        artefacts.commit(shard, [orientation(i) for i in shard.ids], [])
    assert remaining_shards(plan, artefacts) == []
    assert [r.image_id for r in artefacts.catalogue().read_all()] == sorted(f"i{n}" for n in range(10))


def test_images_added_later_do_not_recompute_the_others(artefacts: Artefacts) -> None:
    for shard in plan_shards([("car", f"i{n}") for n in range(8)], 4):
        artefacts.commit(shard, [orientation(i) for i in shard.ids[1:]], [Reject(shard.ids[0], "orient", "E", "m")])
    grown = plan_shards([("car", "a_new_one"), *(("car", f"i{n}") for n in range(8))], 4)
    assert [s.ids for s in remaining_shards(grown, artefacts)] == [("a_new_one",)]


def test_a_shard_killed_between_its_rejects_and_its_rows_is_done_again(artefacts: Artefacts) -> None:
    shard = Shard("car", ("i0", "i1"))
    artefacts.run.write_records(Reject, artefacts.reject_file(shard), [Reject("i0", "orient", "E", "m")])
    assert remaining_shards([shard], artefacts) == [shard]
    assert artefacts.rejects() == []
    artefacts.commit(shard, [orientation("i0"), orientation("i1")], [])
    assert artefacts.rejects() == []
    assert not artefacts.run.exists(artefacts.reject_file(shard))


def test_a_shard_cut_short_by_hand_is_found_and_done_again(artefacts: Artefacts) -> None:
    shard = Shard("car", ("i0", "i1"))
    artefacts.commit(shard, [orientation("i0"), orientation("i1")], [])
    whole = artefacts.run.read_bytes(artefacts.file(shard))
    artefacts.run.write_bytes(artefacts.file(shard), whole[:-20])
    assert remaining_shards([shard], artefacts) == [shard]


def test_a_shard_of_rejects_alone_is_finished(artefacts: Artefacts) -> None:
    shard = Shard("car", ("i0",))
    artefacts.commit(shard, [], [Reject("i0", "orient", "InputError", "broken")])
    assert remaining_shards([shard], artefacts) == []
    assert [r.id for r in artefacts.rejects()] == ["i0"]
