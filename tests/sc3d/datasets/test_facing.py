"""What a person has said of the side that a photo shows."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d.config import DatasetConfig
from sc3d.datasets.facing import SIDES, read_facings, with_facings
from sc3d.datasets.registry import read_dataset
from sc3d.errors import InputError
from sc3d.records import ImageRecord


def written(folder: Path, text: str) -> Path:
    path = folder / "facing.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_sides_and_degrees(tmp_path: Path) -> None:
    text = "image_id,facing\nbus_1,Rear-Left\nbus_2, -90 \n\nbus 3,370\nbus_1,front\n"
    assert read_facings(written(tmp_path, text)) == {"bus_1": 0.0, "bus_2": 270.0, "bus 3": 10.0}


def test_sides_go_around_by_the_left() -> None:
    assert list(SIDES.values()) == [45.0 * i for i in range(8)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bus_1", "line 2: 1 fields"),
        ("bus_1,left,right", "line 2: 3 fields"),
        ("bus_1,sideways", "line 2: 'sideways' is no side; expected front, front-left"),
        ("bus_1,nan", "line 2: 'nan' is no side"),
        ("bus_1,1e999", "line 2: '1e999' is no side"),
    ],
)
def test_other_lines_are_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_facings(written(tmp_path, f"image_id,facing\n{line}\n"))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_of_degrees_is_one_of_a_turn(tmp_path_factory: pytest.TempPathFactory, degrees: float) -> None:
    found = read_facings(written(tmp_path_factory.mktemp("facing"), f"a,{degrees!r}\n"))["a"]
    ImageRecord("a", "a.jpg", "bus", facing=found)
    assert math.isclose(math.cos(math.radians(found)), math.cos(math.radians(math.fmod(degrees, 360))), abs_tol=1e-9)


def test_images_that_are_not_there_are_named() -> None:
    images = [ImageRecord(name, f"{name}.jpg", "bus") for name in ("a", "b")]
    for name in ("b", "b.jpg"):
        assert [image.facing for image in with_facings(images, {name: 90.0}, "f.csv")] == [None, 90.0]
    for name, others in (("c", []), ("a.jpg", [ImageRecord("c", "elsewhere/a.jpg", "bus")])):
        with pytest.raises(InputError, match=rf"f\.csv: 1 names are of no image of the data set, or of several: '{name}'; remove"):
            with_facings([*images, *others], {name: 0.0}, "f.csv")


def test_the_configured_file_is_read_with_any_data_set(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a", "b"):
        (tmp_path / "photos" / f"{name}.jpg").touch()
    config = DatasetConfig(root=str(tmp_path / "photos"), category="bus", facing=str(written(tmp_path, "b.jpg,left\n")))
    assert {Path(image.path).stem: image.facing for image in read_dataset(config).images} == {"a": None, "b": 90.0}
