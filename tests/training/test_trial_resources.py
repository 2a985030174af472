"""Whether a cluster has room for trials, and how much each is given."""

from __future__ import annotations

import pytest

from sc3d.errors import PreflightError


@pytest.mark.parametrize(
    ("there", "workers", "gpus", "expected"),
    [
        ({"CPU": 8.0}, 0, None, (8, 0.0)),
        ({"CPU": 8.0, "GPU": 2.0}, 0, None, (2, 1.0)),
        ({"CPU": 8.0, "GPU": 2.0}, 0, 0.5, (4, 0.5)),
        ({"CPU": 3.0, "GPU": 2.0}, 0, 0.5, (3, 0.5)),
        ({"CPU": 8.0, "GPU": 2.0}, 0, 0.0, (8, 0.0)),
        # The trial itself is in a process too, beside its workers.
        ({"CPU": 8.0}, 4, None, (1, 0.0)),
        ({"CPU": 9.0}, 4, None, (2, 0.0)),
        ({"CPU": 16.0, "GPU": 4.0}, 4, None, (1, 0.0)),
    ],
)
def test_as_many_trials_as_cpus_and_gpus_are_enough_for(
    monkeypatch: pytest.MonkeyPatch, there: dict[str, float], workers: int, gpus: float | None, expected: tuple[int, float]
) -> None:
    from training.trial_resources import room

    monkeypatch.setattr("ray.cluster_resources", lambda: there)
    assert room(workers, gpus) == expected


def test_a_cluster_without_room_for_a_trial_is_said(ray_session: None) -> None:
    from training.trial_resources import room

    with pytest.raises(PreflightError, match=r"train.workers = 1000 needs 1001 CPUs"):
        room(1000, None)
    with pytest.raises(PreflightError, match="3 GPUs"):
        room(0, 3.0)
    assert room(0, 0.0)[0] >= 1
