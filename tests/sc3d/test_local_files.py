"""What a path in data may name: files of a size, and nothing that hangs or never ends. Every reader that opens such a path is tried."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sc3d.config import DownloadConfig
from sc3d.contents import hash_contents
from sc3d.datasets.annotation_files import read_text
from sc3d.datasets.segmentation import read_segmentation
from sc3d.datasets.table import read_table
from sc3d.datasets.toys.truth import toy_truth
from sc3d.datasets.tss import read_flow
from sc3d.errors import Sc3dError
from sc3d.geometry.mesh import load_mesh
from sc3d.images import load_image, read_orientation
from sc3d.local_files import is_file, open_local, read_local
from sc3d.mask_files import load_mask
from sc3d.store import RunFolder


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    # Bound under a short name: theirs have at most 107 bytes.
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(20 * 10**9)


STRANGE: dict[str, Callable[[Path], None]] = {
    "a pipe": fifo,
    "a socket": unix_socket,
    "a device without an end": lambda path: path.symlink_to("/dev/zero"),
    "a folder": Path.mkdir,
    "a sparse file": sparse,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
}
READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "photo": (".jpg", lambda path: load_image(str(path))),
    "address of a photo": (".jpg", lambda path: load_image(path.as_uri())),
    "orientation": (".jpg", lambda path: read_orientation(str(path))),
    "mask": (".png", lambda path: load_mask(str(path), (40, 30))),
    "segmentation": (".png", lambda path: read_segmentation(path, "car")),
    "flow": (".flo", read_flow),
    "truth": (".npz", toy_truth),
    "mesh": (".ply", load_mesh),
    "text": (".txt", read_text),
    "table": (".csv", lambda path: read_table(str(path))),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_no_file_of_a_size_is_refused(tmp_path: Path, kind: str, reader: str) -> None:
    ending, read = READERS[reader]
    path = tmp_path / f"a{ending}"
    STRANGE[kind](path)
    with pytest.raises(Sc3dError, match=rf"a\{ending}"):
        read(path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_no_file_of_a_size_is_not_hashed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.jpg"
    STRANGE[kind](path)
    assert hash_contents(RunFolder(tmp_path / "run"), [str(path)], download=DownloadConfig(max_megabytes=100)) == {str(path): ""}


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001])
def test_the_limit_is_what_is_read(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(size))
    if size <= 1000:
        assert read_local(path, 1000) == bytes(size)
    else:
        with pytest.raises(Sc3dError, match=r"a: the file of 0\.0 MB is larger than 0\.001 MB; make it smaller"):
            read_local(path, 1000, "make it smaller")


def test_a_file_that_states_no_size_is_read_up_to_the_limit() -> None:
    """Those of the kernel say 0."""
    whole = Path("/proc/self/mountinfo").read_bytes() if os.path.exists("/proc/self/mountinfo") else b""
    if not whole:
        pytest.skip("no /proc here")
    with pytest.raises(Sc3dError, match="larger than"):
        read_local("/proc/self/mountinfo", len(whole) // 2)
    assert os.stat("/proc/self/mountinfo").st_size == 0


def test_links_to_files_are_followed_and_odd_names_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").symlink_to("a")
    assert read_local(tmp_path / "b", 10) == b"x"
    with open_local(tmp_path / "b") as stream:
        assert stream.read() == b"x"
    assert is_file(tmp_path / "b")
    for name in ("x" * 5000, "a\x00b"):
        assert not is_file(tmp_path / name)
        with pytest.raises(Sc3dError):
            read_local(f"{tmp_path}/{name}", 10)


def test_the_limit_of_photos_is_an_option(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (700, 700, 3)).astype(np.uint8)).save(path)
    small, large = DownloadConfig(max_megabytes=1), DownloadConfig(max_megabytes=2)
    assert load_image(str(path), large).shape == (700, 700, 3)
    with pytest.raises(
        Sc3dError, match=r"a\.png: the file of 1\.5 MB is larger than 1 MB; .*raise dataset\.download\.max_megabytes"
    ):
        load_image(str(path), small)
    run = RunFolder(tmp_path / "run")
    assert hash_contents(run, [str(path)], download=DownloadConfig(max_megabytes=1))[str(path)] == ""
    assert hash_contents(run, [str(path)], download=DownloadConfig(max_megabytes=2))[str(path)]


def test_a_table_without_line_ends_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("path,category\na.jpg," + "b" * 3_000_000)
    with pytest.raises(Sc3dError, match=r"t\.csv: line \d+ cannot be read \(a row of more than 1,048,576 characters\)"):
        read_table(str(path))
    path.write_text('path,category\na.jpg,"' + "b\n" * 1_500_000)
    with pytest.raises(Sc3dError, match=r"t\.csv: line \d+ cannot be read"):
        read_table(str(path))
    rows = "".join(f"{i}.jpg,{'b' * 80}\n" for i in range(20_000))
    path.write_text("path,category\n" + rows)
    assert len(read_table(str(path))) == 20_000
