"""What is around a toy: sky or wall, ground, clutter, and things in front of it. Pictures here are linear RGB, (H, W, 3)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sc3d.datasets.toys.palette import bright
from sc3d.datasets.toys.toy import Category
from sc3d.datasets.toys.views import View

_FAR = 40.0
_HAZE = 8.0
_NOISE_SIZE = 256


@dataclass(frozen=True)
class Light:
    """A sun or lamp: unit ``direction`` (3,) towards it, its colour (3,), and the ambient light from above and below (3,)."""

    direction: np.ndarray
    colour: np.ndarray
    sky: np.ndarray
    ground: np.ndarray


@dataclass(frozen=True)
class Backdrop:
    """A painted background, and where its ground is: points (M, 3) of the ground at flat pixel indices (M,), for the shadow."""

    picture: np.ndarray
    ground_index: np.ndarray
    ground_points: np.ndarray


def sample_light(rng: np.random.Generator, azimuth: float) -> Light:
    """A light in the half-space of the camera's side more often than not, so that most pictures are not against the light."""
    side = np.deg2rad(azimuth + rng.normal(0, 70))
    height = np.deg2rad(rng.uniform(28, 70))
    direction = np.array([np.sin(side) * np.cos(height), np.sin(height), np.cos(side) * np.cos(height)])
    warmth, strength = rng.uniform(-0.08, 0.12), rng.uniform(0.75, 1.15)
    ambient = rng.uniform(0.3, 0.5)
    colours = (
        strength * np.array([1 + warmth, 1.0, 1 - warmth]),
        ambient * np.array([1 - warmth, 1.0, 1 + warmth]),
        ambient * np.array([0.62, 0.6, 0.57]),
    )
    return Light(direction.astype(np.float32), *(colour.astype(np.float32) for colour in colours))


def noise_texture(rng: np.random.Generator) -> np.ndarray:
    """A tiling noise (256, 256) float32 with detail at all scales, mean 0 and most values within -1 to 1."""
    total = np.zeros((_NOISE_SIZE, _NOISE_SIZE), np.float32)
    for octave, weight in ((8, 1.0), (16, 0.7), (32, 0.5), (64, 0.35), (128, 0.25)):
        cells = rng.standard_normal((octave, octave)).astype(np.float32)
        padded = np.pad(cells, 2, mode="wrap")
        factor = _NOISE_SIZE // octave
        grown = cv2.resize(padded, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        total += weight * grown[2 * factor : 2 * factor + _NOISE_SIZE, 2 * factor : 2 * factor + _NOISE_SIZE]
    return total / 1.4


def paint_backdrop(rng: np.random.Generator, view: View, category: Category, floor: float) -> Backdrop:
    """Sky or wall with clutter before it, and a ground at canonical height ``floor``."""
    width, height = view.camera.width, view.camera.height
    noise = noise_texture(rng)
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    directions = view.rays(np.stack([columns, rows], -1).reshape(-1, 2))[:, 3:]
    directions /= np.sqrt(np.einsum("nc,nc->n", directions, directions))[:, None]
    plane = floor if category.grounded else floor - float(rng.uniform(3, 9))
    distance = _distance(directions, view, np.array([0.0, 1.0, 0.0]), plane)
    if category.outdoor:
        limit = np.full(len(directions), _FAR, np.float32)
        picture = np.zeros((len(directions), 3), np.float32)
        above = np.flatnonzero(distance > _HAZE)
        picture[above] = _sky(rng, directions[above], noise)
    else:
        picture, limit = _room(rng, directions, view, noise, floor)
    picture = _clutter(rng, picture.reshape(height, width, 3), view, noise, category.outdoor)
    index = np.flatnonzero(distance < limit)
    points = view.centre.astype(np.float32) + directions[index] * distance[index, None]
    ground = _ground(rng, points, noise, category)
    flat = picture.reshape(-1, 3)
    # Far ground fades into what is above the horizon, as it does in haze, and so do the aliases of its pattern.
    far = np.flatnonzero(distance[index] > _HAZE)
    fade = np.sqrt((distance[index[far]] - _HAZE) / (_FAR - _HAZE))[:, None]
    ground[far] += (flat[index[far]] - ground[far]) * fade
    flat[index] = ground
    if not category.grounded:
        index, points = index[:0], points[:0]
    return Backdrop(flat.reshape(height, width, 3), index, points)


def _distance(directions: np.ndarray, view: View, normal: np.ndarray, offset: float) -> np.ndarray:
    """Distances (N,) from the camera along unit directions (N, 3) to the plane normal . X = offset; inf where it is not ahead."""
    along = directions @ normal.astype(np.float32)
    gap = offset - float(view.centre @ normal)
    ahead = along * np.sign(gap) > 1e-4
    return np.asarray(np.where(ahead, gap / np.where(ahead, along, 1), np.inf), np.float32)


def _lookup(noise: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.asarray(noise[np.floor(v).astype(np.int32) % _NOISE_SIZE, np.floor(u).astype(np.int32) % _NOISE_SIZE])


def _colour(rng: np.random.Generator, low: float = 0.0, high: float = 1.0, grey: float = 0.5) -> np.ndarray:
    """A linear colour (3,) with brightness between ``low`` and ``high``, mixed towards grey."""
    colour = np.asarray(bright(rng)) ** 2.2
    colour = colour * (1 - grey) + colour.mean() * grey
    return np.asarray(colour / max(float(colour.max()), 1e-6) * rng.uniform(low, high), np.float32)


def _sky(rng: np.random.Generator, directions: np.ndarray, noise: np.ndarray) -> np.ndarray:
    zenith = np.array([[0.16, 0.36, 0.75], [0.45, 0.5, 0.56], [0.3, 0.3, 0.55]], np.float32)[int(rng.integers(3))]
    horizon = np.array([[0.72, 0.82, 0.92], [0.78, 0.78, 0.78], [0.95, 0.68, 0.5]], np.float32)[int(rng.integers(3))]
    rise = np.sqrt(np.clip(directions[:, 1] * 1.8, 0, 1))[:, None]
    sky = horizon * (1 - rise) + zenith * rise
    turn = np.arctan2(directions[:, 0], directions[:, 2]) * (_NOISE_SIZE / np.pi)
    clouds = _lookup(noise, turn, directions[:, 1] * 300 + 100 * float(rng.random()))
    smooth = np.clip(clouds * 0.8 + float(rng.uniform(-0.4, 0.4)), 0, 1)[:, None] * 0.7
    return np.asarray(sky * (1 - smooth) + 0.92 * smooth)


def _room(
    rng: np.random.Generator, directions: np.ndarray, view: View, noise: np.ndarray, floor: float
) -> tuple[np.ndarray, np.ndarray]:
    """A papered, striped or brick wall behind the toy: its picture (N, 3), and its distance (N,) along the unit directions (N, 3)."""
    turn = np.deg2rad(view.azimuth + 180 + rng.uniform(-28, 28))
    normal = np.array([np.sin(turn), 0.0, np.cos(turn)])
    distance = np.minimum(_distance(directions, view, normal, float(rng.uniform(0.9, 2.6))), _FAR)
    across = (
        view.centre @ [normal[2], 0, -normal[0]] + distance * (directions @ np.array([normal[2], 0, -normal[0]], np.float32))
    ).astype(np.float32)
    up = (view.centre[1] - floor + distance * directions[:, 1]).astype(np.float32)
    colour, second = _colour(rng, 0.3, 0.85, grey=0.6), _colour(rng, 0.15, 0.8, grey=0.6)
    wall = np.broadcast_to(colour, (len(up), 3)) * (1 + 0.06 * _lookup(noise, across * 120, up * 120))[:, None]
    style = int(rng.integers(4))
    if style == 1:
        wall[np.sin(across * float(rng.uniform(12, 40))) > rng.uniform(-0.2, 0.6)] *= float(rng.uniform(0.7, 0.92))
    elif style == 2:
        row = np.floor(up / 0.11)
        column = np.floor(across / 0.3 + 0.5 * (row % 2))
        wall *= (1 + 0.12 * _lookup(noise, row * 17, column * 31))[:, None]
        wall[(np.mod(up / 0.11, 1) < 0.1) | (np.mod(across / 0.3 + 0.5 * (row % 2), 1) < 0.05)] *= 1.3
    elif style == 3:
        wall[up < rng.uniform(0.4, 0.9)] = second
    wall[up < 0.09] = 0.75 if rng.random() < 0.6 else second * 0.5
    return np.clip(wall, 0, 1), distance


def _ground(rng: np.random.Generator, points: np.ndarray, noise: np.ndarray, category: Category) -> np.ndarray:
    a = float(rng.uniform(0, np.pi))
    u, v = points[:, 0] * np.cos(a) + points[:, 2] * np.sin(a), points[:, 2] * np.cos(a) - points[:, 0] * np.sin(a)
    style = int(rng.integers(3))
    if category.outdoor:
        base = np.array([[0.13, 0.13, 0.135], [0.12, 0.21, 0.05], [0.45, 0.36, 0.24]])[style] * rng.uniform(0.7, 1.5)
        rough, spread = (0.22, 1.0) if category.grounded else (0.5, 20.0)
    else:
        base = np.array([0.42, 0.25, 0.13]) * rng.uniform(0.4, 1.5) if style == 0 else _colour(rng, 0.2, 0.7, grey=0.6)
        rough, spread = 0.07, 1.0
    grain = rough * (
        _lookup(noise, u * (150 / spread), v * (150 / spread)) + 0.5 * _lookup(noise, u * (23 / spread), v * (23 / spread))
    )
    colour = base.astype(np.float32) * (1 + grain)[:, None]
    if not category.outdoor and style == 0:
        board = np.floor(u / 0.22)
        colour *= (1 + 0.16 * _lookup(noise, board * 37, np.floor(v / 1.7 + board * 0.37) * 53))[:, None]
        colour[np.mod(u / 0.22, 1) < 0.05] *= 0.6
    elif not category.outdoor and style == 1:
        odd = (np.floor(u / 0.45) + np.floor(v / 0.45)) % 2 > 0
        colour[odd] *= float(rng.uniform(0.45, 0.85))
    elif category.outdoor and style == 0 and category.grounded:
        colour[np.abs(u - float(rng.uniform(0.9, 1.6))) < 0.035] = 0.6
    return np.asarray(np.clip(colour, 0, 1))


def _clutter(rng: np.random.Generator, picture: np.ndarray, view: View, noise: np.ndarray, outdoor: bool) -> np.ndarray:
    """Blocks, balls and spires of any colour that stand on the horizon or hang on the wall, a little out of focus."""
    height, width = picture.shape[:2]
    K, R = view.camera.K, view.pose.R
    down = R @ np.array([0.0, -1.0, 0.0])
    layer = np.ascontiguousarray(picture, np.float32)
    slope = -down[0] / down[1] if abs(down[1]) > 0.1 else 0.0
    level = float(K[1, 2] - K[1, 1] * down[2] / max(abs(float(down[1])), 0.1))
    for _ in range(int(rng.integers(5, 14))):
        x = float(rng.uniform(-0.1, 1.1) * width)
        # The horizon, or for shapes on a wall anywhere above it.
        foot = level + slope * (x - K[0, 2]) + float(rng.uniform(-4, 18))
        if not outdoor and rng.random() < 0.5:
            foot -= float(rng.uniform(0.1, 0.6)) * height
        w, h = rng.uniform(0.04, 0.2) * width, rng.uniform(0.08, 0.4) * height
        colour = _colour(rng, 0.1, 0.8, grey=float(rng.uniform(0.2, 0.8)))
        kind = int(rng.integers(3))
        if kind == 0:
            outline = np.array([[x - w / 2, foot], [x + w / 2, foot], [x + w / 2, foot - h], [x - w / 2, foot - h]])
        elif kind == 1:
            turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            outline = np.column_stack([x + w / 2 * np.cos(turn), foot - h / 2 + h / 2 * np.sin(turn)])
        else:
            outline = np.array([[x - w / 2, foot], [x + w / 2, foot], [x + rng.uniform(-0.2, 0.2) * w, foot - h]])
        cv2.fillPoly(layer, [np.round(outline * 16).astype(np.int32)], colour.tolist(), cv2.LINE_AA, 4)
        if kind == 0 and rng.random() < 0.6:
            _windows(rng, layer, outline, colour * rng.uniform(0.5, 1.6))
    soft = cv2.GaussianBlur(layer, (0, 0), float(rng.uniform(0.6, 2.5)))
    grain = noise[np.arange(height)[:, None] % _NOISE_SIZE, np.arange(width) % _NOISE_SIZE]
    return np.clip(soft * (1 + 0.04 * grain[..., None]), 0, 1)


def _windows(rng: np.random.Generator, layer: np.ndarray, outline: np.ndarray, colour: np.ndarray) -> None:
    (x0, y1), (x1, y0) = outline[0], outline[2]
    across, up = int(rng.integers(2, 5)), int(rng.integers(2, 6))
    for i in range(across):
        for j in range(up):
            left, top = x0 + (x1 - x0) * (i + 0.25) / across, y0 + (y1 - y0) * (j + 0.25) / up
            size = np.array([(x1 - x0) / across, (y1 - y0) / up]) * 0.5
            pane = np.array([[left, top], [left + size[0], top], [left + size[0], top + size[1]], [left, top + size[1]]])
            cv2.fillPoly(layer, [np.round(pane * 16).astype(np.int32)], np.clip(colour, 0, 1).tolist(), cv2.LINE_AA, 4)


def sample_occluder(rng: np.random.Generator, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """A thing in front of the toy that hides 8 to 40 % of its ``mask`` (H, W).

    Returns:
        Its picture (H, W, 3) and its coverage (H, W), or ``None`` if twenty trials hide too little or too much.
    """
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    extent = np.array([np.ptp(columns) + 1, np.ptp(rows) + 1], float)
    for _ in range(20):
        pick = int(rng.integers(len(rows)))
        outline = _occluder_outline(rng, np.array([columns[pick], rows[pick]], float), extent, height)
        coverage = np.zeros((height, width), np.uint8)
        cv2.fillPoly(coverage, [np.round(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        hidden = float((coverage[mask] > 127).mean())
        if 0.08 <= hidden <= 0.4:
            break
    else:
        return None
    first, second = _colour(rng, 0.2, 0.85, 0.25), _colour(rng, 0.2, 0.85, 0.4)
    y, x = np.mgrid[0:height, 0:width]
    a, period = rng.uniform(0, np.pi), rng.uniform(10, 40)
    bands = np.sin((x * np.cos(a) + y * np.sin(a)) * 2 * np.pi / period) > rng.uniform(0, 1.2)
    picture = np.where(bands[..., None], second, first)
    inside = cv2.distanceTransform((coverage > 127).astype(np.uint8), cv2.DIST_L2, 3)
    # Darker towards its edge, so that it reads as a thing with a round rim and not as a hole.
    picture = picture * (0.55 + 0.45 * np.clip(inside / 10, 0, 1))[..., None]
    return picture.astype(np.float32), coverage / np.float32(255)


def _occluder_outline(rng: np.random.Generator, at: np.ndarray, extent: np.ndarray, height: int) -> np.ndarray:
    kind = int(rng.integers(3))
    if kind == 0:
        half, lean = rng.uniform(0.05, 0.16) * extent.max(), rng.uniform(-0.2, 0.2) * height
        return np.array(
            [
                [at[0] - half - lean, -9.0],
                [at[0] + half - lean, -9.0],
                [at[0] + half + lean, height + 9.0],
                [at[0] - half + lean, height + 9.0],
            ]
        )
    count = int(rng.integers(5, 9)) if kind == 1 else 40
    turn = np.sort(rng.uniform(0, 2 * np.pi, count)) if kind == 1 else np.linspace(0, 2 * np.pi, count, endpoint=False)
    reach = rng.uniform(0.6, 1.0, count) if kind == 1 else 1 + rng.uniform(0.05, 0.25) * np.sin(turn * int(rng.integers(3, 9)))
    size = rng.uniform(0.18, 0.42) * extent.mean()
    return np.asarray(at + size * np.column_stack([np.cos(turn), np.sin(turn)]) * reach[:, None])
