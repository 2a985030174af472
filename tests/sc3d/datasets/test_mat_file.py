"""MAT-files: what SciPy writes is read as SciPy reads it; anything else is an error."""

from __future__ import annotations

import io
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.io import loadmat, savemat

from sc3d.datasets.mat_file import MAX_UNPACKED, read_mat

NAMES = ("kps", "bbox")


def written(compress: bool = False, **variables: object) -> bytes:
    stream = io.BytesIO()
    savemat(stream, variables, do_compression=compress)
    return stream.getvalue()


@given(
    array=hnp.arrays(
        st.sampled_from(["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]),
        hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5),
    ),
    compress=st.booleans(),
)
def test_arrays_are_read_as_scipy_reads_them(array: np.ndarray, compress: bool) -> None:
    data = written(compress, other="a text", kps=array, photo=np.zeros((20, 20, 3)), bbox=np.array([[1, 2, 3, 4.5]]))
    expected = loadmat(io.BytesIO(data))
    found = read_mat(data, NAMES)
    assert found.keys() == set(NAMES)
    for name in NAMES:
        values = found[name]
        assert values is not None
        assert values.dtype == np.float64
        np.testing.assert_array_equal(values, expected[name].astype(np.float64))


@pytest.mark.parametrize(
    "value",
    ["text", np.array([[1, "a"]], object), np.ones(2) + 1j, np.ones(2, bool), {"kps": np.ones(2)}, [], ["a", "b"]],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_array_of_real_numbers_is_none(value: object) -> None:
    found = read_mat(written(kps=value, bbox=np.ones(4)), NAMES)
    assert found.get("kps") is None or found["kps"].size == 0
    assert found["bbox"] is not None


def test_other_byte_order() -> None:
    """As MATLAB wrote on other processors: a file turned by hand."""
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI"
    parts = (
        (6, np.array([6, 0], ">u4")),
        (5, np.array([1, 2], ">i4")),
        (1, np.frombuffer(b"kps", "i1")),
        (9, np.array([1.5, -2], ">f8")),
    )
    body = b"".join(
        np.array([kind, part.nbytes], ">u4").tobytes() + part.tobytes().ljust(-(-part.nbytes // 8) * 8) for kind, part in parts
    )
    found = read_mat(head + np.array([14, len(body)], ">u4").tobytes() + body, NAMES)["kps"]
    assert found is not None
    assert found.tolist() == [[1.5, -2.0]]


@given(data=st.data(), compress=st.booleans())
def test_damaged_files_are_errors_or_read(data: st.DataObject, compress: bool) -> None:
    whole = written(compress, kps=np.arange(8.0).reshape(4, 2), bbox=np.ones((1, 4)))
    place = data.draw(st.integers(0, len(whole) - 1))
    broken = data.draw(st.sampled_from([b"", data.draw(st.binary(min_size=1, max_size=8)) + whole[place + 1 :]]))
    with suppress(ValueError):
        read_mat(whole[:place] + broken, NAMES)


def test_a_packed_array_has_a_size() -> None:
    """A kilobyte of it unpacks to a megabyte."""
    data = written(True, kps=np.zeros((10_000_000, 2)))
    assert len(data) < 200_000
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"has .* bytes of numbers"):
            read_mat(data, NAMES)
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_UNPACKED
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data", [b"", b"MATLAB 5.0 MAT-file" + bytes(200), bytes(126) + b"IM" + b"\x0f\x00\x00\x00\x08\x00\x00\x00" + b"x" * 8]
)
def test_what_is_no_such_file_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_mat(data, NAMES)
