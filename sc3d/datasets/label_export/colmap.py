"""COLMAP's database: cameras, images, keypoints and matches in the tables of its ``database.db`` (scripts/python/database.py).

The centre of COLMAP's first pixel is at (0.5, 0.5), as ours is. Two-view geometries are left to whoever verifies the matches: two different
objects have no epipolar geometry.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import tempfile
from pathlib import Path

import numpy as np

from sc3d.datasets.label_export.cell_keypoints import KeypointMatches, KeypointWriter, UsedCells

DATABASE = "database.db"
MAX_IMAGE_ID = 2**31 - 1
"""The pair of images a < b has the id a * MAX_IMAGE_ID + b."""

# f, cx, cy, k; the focal length is COLMAP's own guess where nothing is known.
_SIMPLE_RADIAL, _FOCAL = 2, 1.2

_SCHEMA = f"""
CREATE TABLE cameras (camera_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, model INTEGER NOT NULL, width INTEGER NOT NULL,
    height INTEGER NOT NULL, params BLOB, prior_focal_length INTEGER NOT NULL);
CREATE TABLE images (image_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, name TEXT NOT NULL UNIQUE, camera_id INTEGER NOT NULL,
    prior_qw REAL, prior_qx REAL, prior_qy REAL, prior_qz REAL, prior_tx REAL, prior_ty REAL, prior_tz REAL,
    CONSTRAINT image_id_check CHECK(image_id >= 0 and image_id < {MAX_IMAGE_ID}),
    FOREIGN KEY(camera_id) REFERENCES cameras(camera_id));
CREATE TABLE keypoints (image_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL, cols INTEGER NOT NULL, data BLOB,
    FOREIGN KEY(image_id) REFERENCES images(image_id) ON DELETE CASCADE);
CREATE TABLE descriptors (image_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL, cols INTEGER NOT NULL, data BLOB,
    FOREIGN KEY(image_id) REFERENCES images(image_id) ON DELETE CASCADE);
CREATE TABLE matches (pair_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL, cols INTEGER NOT NULL, data BLOB);
CREATE TABLE two_view_geometries (pair_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL, cols INTEGER NOT NULL, data BLOB,
    config INTEGER NOT NULL, F BLOB, E BLOB, H BLOB, qvec BLOB, tvec BLOB);
CREATE UNIQUE INDEX index_name ON images(name);
"""

_LAYOUT = """`database.db`: COLMAP's tables of cameras, images, keypoints and matches. An image's keypoints are the centres of the
grid cells that any label touches; the matches of both orders of a pair are one row. Names are those of the files below the folder of the
photos. There are no two-view geometries, since these are different objects: the database shows and passes on matches, and is no beginning
of a reconstruction unless the images show one object."""


class ColmapWriter(KeypointWriter):
    """The whole database."""

    own_files = re.compile(re.escape(DATABASE))
    layout = _LAYOUT

    def write(self, rows: list[int], names: dict[int, str], used: UsedCells) -> None:
        with tempfile.TemporaryDirectory() as scratch, self.folder.writing(DATABASE) as stream:
            path = Path(scratch) / DATABASE
            database = sqlite3.connect(path)
            try:
                database.executescript(_SCHEMA)
                for row in rows:
                    self._add_image(database, row, names[row], used)
                for pair in self.pairs(used):
                    _add_matches(database, pair)
                database.commit()
            finally:
                database.close()
            with open(path, "rb") as written:
                shutil.copyfileobj(written, stream)

    def _add_image(self, database: sqlite3.Connection, row: int, name: str, used: UsedCells) -> None:
        width, height = self.source.images.size(row)
        guess = np.array([_FOCAL * max(width, height), width / 2, height / 2, 0], "<f8")
        camera = (row + 1, _SIMPLE_RADIAL, width, height, guess.tobytes(), 0)
        database.execute("INSERT INTO cameras VALUES (?, ?, ?, ?, ?, ?)", camera)
        database.execute("INSERT INTO images (image_id, name, camera_id) VALUES (?, ?, ?)", (row + 1, name, row + 1))
        points = self.centres(row, used).astype("<f4")
        database.execute("INSERT INTO keypoints VALUES (?, ?, ?, ?)", (row + 1, *points.shape, points.tobytes()))


def pair_id_of(first: int, second: int) -> int:
    """COLMAP's id of the pair of two image ids, in either order."""
    low, high = sorted((first, second))
    return low * MAX_IMAGE_ID + high


def _add_matches(database: sqlite3.Connection, pair: KeypointMatches) -> None:
    pair_id = pair_id_of(pair.source + 1, pair.target + 1)
    matches = pair.matches if pair.source < pair.target else pair.matches[:, ::-1]
    for (known,) in database.execute("SELECT data FROM matches WHERE pair_id = ?", (pair_id,)).fetchall():
        matches = np.concatenate([np.frombuffer(known, "<u4").reshape(-1, 2), matches])
    packed = np.unique(matches, axis=0).astype("<u4")
    database.execute("INSERT OR REPLACE INTO matches VALUES (?, ?, ?, ?)", (pair_id, *packed.shape, packed.tobytes()))
