"""Small copies of published data sets, in their exact formats."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

AP10K_FILES = tuple(f"ap10k-{part}-split1.json" for part in ("train", "test", "val"))
SEEN = (2,) * 17


def write_photo(path: Path, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path


def spair_image(root: Path, category: str, stem: str, folder: str = "ImageAnnotation", **changes: Any) -> None:
    path = root / folder / category / f"{stem}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    kps = {str(i): None for i in range(30)} | {"0": [1, 2], "2": [30, 20]}
    path.write_text(json.dumps({"filename": f"{stem}.jpg", "bndbox": [1, 2, 30, 20], "kps": kps} | changes))


def spair_pair(root: Path, split: str, name: str, folder: str = "PairAnnotation") -> Path:
    path = root / folder / split / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    return path


def spair_layout(root: Path, split: str, names: Iterable[str], size: str = "large") -> None:
    path = root / "Layout" / size / f"{split}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


def ap10k_entry(image_id: int, visibility: Sequence[int] = SEEN, **changes: Any) -> dict[str, Any]:
    """An annotation in COCO's layout, without its category."""
    keypoints = [value for i, v in enumerate(visibility) for value in (i + 1, 2 * i + 1, v)]
    entry = {"id": 10_000 + image_id, "image_id": image_id, "bbox": [2, 3, 30, 20], "keypoints": keypoints, "iscrowd": 0}
    return entry | {"num_keypoints": sum(v > 0 for v in visibility)} | changes


def write_ap10k(
    root: Path,
    species: Mapping[tuple[str, str], Iterable[dict[str, Any]]],
    crowds: Iterable[int] = (),
    seed: int = 0,
) -> Path:
    """AP-10K as it is published; the entries are dealt to the three files in an order that ``seed`` decides."""
    parts: list[dict[str, Any]] = [{"images": [], "annotations": [], "categories": []} for _ in AP10K_FILES]
    entries = []
    for number, ((family, name), animals) in enumerate(species.items(), start=1):
        for part in parts:
            part["categories"].append({"id": number, "name": name, "supercategory": family})
        entries += [{**animal, "category_id": number} for animal in animals]
    draw = random.Random(seed)
    draw.shuffle(entries)
    for entry in entries:
        part = draw.choice(parts)
        part["annotations"].append(entry)
        name = f"{entry['image_id']:012d}.jpg"
        part["images"].append({"id": entry["image_id"], "file_name": name, "width": 40, "height": 60})
    (root / "annotations").mkdir(parents=True)
    for name, part in zip(AP10K_FILES, parts, strict=True):
        (root / "annotations" / name).write_text(json.dumps(part))
    (root / "ap-10k_is_crowd.txt").write_text("".join(f"{i:012d}\r\n" for i in crowds))
    return root


def write_prepared_ap10k(root: Path, species: Mapping[tuple[str, str], Iterable[dict[str, Any]]], seed: int = 0) -> Path:
    """AP-10K as GeoAware-SC's notebook rearranges it, without pairs; files are made in an order that ``seed`` decides."""
    files = []
    for (family, name), animals in species.items():
        for animal in animals:
            number = animal["image_id"]
            whole = {**animal, "id": number, "file_name": f"{number:012d}.jpg", "name": name, "supercategory": family}
            files.append((root / "ImageAnnotation" / family / name / f"{number:012d}.json", whole))
    random.Random(seed).shuffle(files)
    for path, whole in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(whole))
    (root / "ap-10k_is_crowd.txt").touch()
    return root


def write_flow(path: Path, flow: np.ndarray) -> None:
    height, width, _ = flow.shape
    header = np.float32(202021.25).tobytes() + np.array([width, height], "<i4").tobytes()
    path.write_bytes(header + flow.astype("<f4").tobytes())


def write_tss(root: Path, folder: str, shift: tuple[int, int] = (4, -2), mirrored: bool | None = False) -> Path:
    """A pair of 60 x 40 and 64 x 44 pixels; the object is a rectangle that moves by ``shift``."""
    here = root / folder
    here.mkdir(parents=True)
    for side, sign, (width, height) in ((1, 1, (60, 40)), (2, -1, (64, 44))):
        write_photo(here / f"image{side}.png", (width, height))
        write_flow(here / f"flow{side}.flo", np.broadcast_to(sign * np.array(shift, np.float32), (height, width, 2)))
        mask = np.zeros((height, width), np.uint8)
        x, y = (10, 10) if side == 1 else (10 + shift[0], 10 + shift[1])
        mask[y : y + 20, x : x + 30] = 255
        Image.fromarray(mask).save(here / f"mask{side}.png")
    if mirrored is not None:
        (here / "flip_gt.txt").write_bytes(b"1\r\n" if mirrored else b"0")
    return here
