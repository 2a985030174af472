"""The actors' contract: one bad row becomes a reject and never takes its batch along; running out of GPU memory halves the batch."""

import asyncio
import logging
import weakref
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.base import Actor, check_actors, run_actors
from sc3d.config import RunConfig
from sc3d.errors import ConfigError, InputError, UndeclaredOptionError

BROKEN = InputError("photo is broken; remove it")


class OutOfMemoryError(RuntimeError):
    """Named like torch's own."""


class Double(Actor):
    requires = {"x": "a number"}
    provides = {"y": "twice the number"}
    version = "double-1"
    batch_size = 8

    def __init__(self, bad=(), capacity=None, error=BROKEN):
        super().__init__(RunConfig())
        self.bad, self.capacity, self.error = set(bad), capacity, error
        self.batches = []

    def process(self, row):
        if row["x"] in self.bad:
            raise self.error
        return {"y": 2 * row["x"]}

    def process_batch(self, rows):
        self.batches.append(len(rows))
        if self.capacity is not None and len(rows) > self.capacity:
            raise OutOfMemoryError("CUDA out of memory")
        return super().process_batch(rows)


class Increment(Actor):
    requires = {"x": "a number", "y": "twice the number"}
    provides = {"z": "one more"}
    version = "increment-1"

    def __init__(self):
        super().__init__(RunConfig())
        self.seen = []

    def process(self, row):
        self.seen.append(row["x"])
        return {"z": row["y"] + 1}


def rows(n):
    return [{"image_id": f"i{x}", "x": x} for x in range(n)]


def run(actors, n, stage="describe"):
    return run_actors(actors, rows(n), "image_id", stage)


def test_rows_go_through_all_actors_in_order():
    outcomes = run([Double(), Increment()], 20)
    assert [o.row["z"] for o in outcomes] == [2 * x + 1 for x in range(20)]
    assert all(o.reject is None and o.seconds > 0 for o in outcomes)


@given(st.sets(st.integers(0, 19)))
def test_bad_rows_are_rejected_alone(bad):
    later = Increment()
    outcomes = run([Double(bad), later], 20)
    assert [o.row["image_id"] for o in outcomes] == [f"i{x}" for x in range(20)]
    for x, outcome in enumerate(outcomes):
        if x in bad:
            assert (outcome.reject.id, outcome.reject.stage, outcome.reject.error_type) == (f"i{x}", "describe", "InputError")
            assert outcome.reject.message == "Double: photo is broken; remove it"
        else:
            assert outcome.reject is None
            assert outcome.row["z"] == 2 * x + 1
    assert later.seen == [x for x in range(20) if x not in bad]


def test_errors_that_are_not_ours_are_rejects_too_and_are_logged(caplog):
    with caplog.at_level(logging.WARNING):
        outcomes = run([Double([3], error=ZeroDivisionError("in the model"))], 8)
    assert outcomes[3].reject.error_type == "ZeroDivisionError"
    assert sum(o.reject is None for o in outcomes) == 7
    assert "i3" in caplog.text


def test_what_a_model_says_of_an_address_shows_no_secret_of_it(caplog):
    error = OSError("cannot identify 'https://me:tell@example.org/a.jpg?sig=nobody'")
    with caplog.at_level(logging.WARNING):
        (outcome,) = run([Double([0], error=error)], 1)
    for text in (caplog.text, outcome.reject.message):
        assert "cannot identify 'https://example.org/a.jpg'" in text
        assert "tell" not in text
        assert "nobody" not in text


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SystemExit("no licence"), "left by exit(no licence)"),
        (GeneratorExit("closed"), "left by GeneratorExit(closed)"),
        (asyncio.CancelledError(), "left by CancelledError()"),
        (RecursionError("too deep"), "too deep"),
        (MemoryError(), "MemoryError. The memory is too little"),
    ],
)
def test_however_a_model_leaves_it_takes_nobody_along(error, message):
    outcomes = run([Double([3], error=error)], 8)
    assert outcomes[3].reject.message.startswith(f"Double: {message}")
    assert outcomes[3].reject.error_type == type(error).__name__
    assert sum(o.reject is None for o in outcomes) == 7


def test_a_task_that_ray_cancels_rejects_nothing():
    with pytest.raises(KeyboardInterrupt):
        run([Double([3], error=KeyboardInterrupt())], 8)


def test_out_of_memory_halves_the_batch_until_it_fits():
    actor = Double(capacity=2)
    outcomes = run([actor], 8)
    assert [o.row["y"] for o in outcomes] == [2 * x for x in range(8)]
    assert actor.batches == [8, 4, 2, 2, 4, 2, 2]


def test_out_of_memory_on_a_single_row_is_a_reject():
    outcomes = run([Double(capacity=0)], 3)
    assert [o.reject.error_type for o in outcomes] == ["OutOfMemoryError"] * 3


def test_out_of_memory_and_a_bad_row_in_one_batch():
    outcomes = run([Double([5], capacity=4)], 8)
    assert [o.reject is not None for o in outcomes] == [x == 5 for x in range(8)]


def test_batches_are_as_large_as_the_actor_says():
    actor = Double()
    run([actor], 20)
    assert actor.batches == [8, 8, 4]


def test_missing_result_is_a_contract_error():
    class Forgetful(Double):
        def process(self, row):
            return {} if row["x"] == 1 else super().process(row)

    outcomes = run([Forgetful()], 3)
    assert [o.reject and o.reject.error_type for o in outcomes] == [None, "ContractError", None]
    assert "['y']" in outcomes[1].reject.message


def test_results_that_do_not_fit_the_rows_are_never_mixed_up():
    class Short(Double):
        def process_batch(self, rows):
            return super().process_batch(rows)[1:]

    assert all(o.reject.error_type == "RuntimeError" for o in run([Short()], 4))


def test_rows_of_the_caller_stay_as_they_are():
    given_rows = rows(3)
    run_actors([Double()], given_rows, "image_id", "describe")
    assert given_rows == rows(3)


def test_an_actor_gets_what_it_requires_alone():
    class Curious(Increment):
        def process(self, row):
            assert list(row) == list(self.requires)
            return super().process(row)

    outcomes = run([Double(), Curious()], 3)
    assert [o.reject for o in outcomes] == [None] * 3
    assert [o.row["image_id"] for o in outcomes] == ["i0", "i1", "i2"]


def test_contract_check_accepts_what_fits():
    check_actors([Double, Increment], ["image_id", "x"])


@pytest.mark.parametrize(("actors", "given_keys"), [([Increment], ["x"]), ([Increment, Double], ["x"]), ([Double], ["image_id"])])
def test_contract_check_names_what_nobody_provides(actors, given_keys):
    missing = "x" if actors == [Double] else "y"
    with pytest.raises(ConfigError, match=rf"needs {missing} \(.*\), which no earlier actor provides"):
        check_actors(actors, given_keys)


def test_contract_check_asks_for_a_version():
    class Nameless(Actor):
        requires, provides = Double.requires, Double.provides

        def process(self, row):
            return {"y": 0}

    with pytest.raises(ConfigError, match="Nameless declares no version"):
        check_actors([Nameless], ["x"])


def test_an_option_that_is_not_declared_cannot_be_read():
    class Reader(Increment):
        options = ("label.tau_geo",)

    config = Reader().config
    assert config.label.tau_geo == RunConfig().label.tau_geo
    with pytest.raises(UndeclaredOptionError, match=r"label\.tau_cc is read but not declared"):
        _ = config.label.tau_cc
    assert Reader.made_of(RunConfig()) != Increment.made_of(RunConfig())


def test_an_option_that_is_not_declared_ends_the_run_instead_of_rejecting_rows():
    class Reader(Increment):
        def process(self, row):
            return {"y": self.config.label.tau_cc}

    with pytest.raises(UndeclaredOptionError):
        run_actors([Reader()], [{"x": 1, "y": 2, "id": "a"}], "id", "s")


def test_actor_without_process_cannot_be_built():
    class Nothing(Actor):
        requires = {}
        provides = {}

    with pytest.raises(TypeError, match="process"):
        Nothing(RunConfig())


class Activations:
    """A tensor that a model holds while it works."""


def test_nothing_of_a_batch_that_was_too_large_is_held_when_its_halves_run():
    class Heavy(Double):
        alive: ClassVar = []

        def process_batch(self, rows):
            assert all(reference() is None for reference in self.alive), "the failed batch still holds its memory"
            activations = Activations()
            activations.itself = activations  # a cycle, as autograd and hooks make them
            self.alive.append(weakref.ref(activations))
            if len(rows) > 1:
                raise OutOfMemoryError("CUDA out of memory")
            activations.itself = None
            return [self.process(row) for row in rows]

    outcomes = run([Heavy()], 4)
    assert [o.reject for o in outcomes] == [None] * 4


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (MemoryError(), True),
        (ValueError("shapes differ"), False),
    ],
)
def test_out_of_memory_is_known_in_all_its_forms(error, is_memory, caplog):
    class Full(Double):
        def process_batch(self, rows):
            if len(rows) > 1:
                raise InputError("the model failed") from error
            return super().process_batch(rows)

    with caplog.at_level(logging.WARNING):
        outcomes = run([Full()], 4)
    assert all(o.reject is None for o in outcomes)
    assert ("out of memory on 4 rows" in caplog.text) == is_memory
