"""Names that look alike are offered, the nearest first, and none where none is near."""

from __future__ import annotations

from sc3d.near_names import did_you_mean, near_names


def test_near_names_come_nearest_first_whatever_their_capitals() -> None:
    assert near_names("zero-shoot", ["adapter", "zero-shot-3d", "zero-shot"]) == ["zero-shot", "zero-shot-3d"]
    assert near_names("SPAIR", ["spair", "tss"]) == ["spair"]
    assert near_names("xyzzy", ["spair", "tss"]) == []


def test_a_question_is_asked_only_where_something_is_near() -> None:
    assert did_you_mean(["a", "b"]) == " (did you mean a or b?)"
    assert did_you_mean([]) == ""
