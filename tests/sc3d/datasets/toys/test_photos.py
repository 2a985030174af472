"""Pictures to begin with: photos in folders by category, and nothing else."""

from pathlib import Path

import pytest

from sc3d.datasets.toys import ToysConfig
from sc3d.datasets.toys.photos import draw_photos
from sc3d.errors import InputError

SMALL = ToysConfig(("mug", "table"), {"trn": 2, "val": 0, "test": 0}, width=64, height=64, workers=1)


def test_only_photos_are_left(tmp_path: Path) -> None:
    draw_photos(tmp_path / "new" / "photos", SMALL)
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir())
    assert found == [f"new/photos/{name}/{name}_00{i}.jpg" for name in ("mug", "table") for i in (1, 2)]


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.jpg").touch()
    for taken in (tmp_path, tmp_path / "mine.jpg"):
        with pytest.raises(InputError, match="is there already"):
            draw_photos(taken, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.jpg"]
