"""Every reader of files that come from outside, a valid file for it, and how such a file is broken: ``python -m tests.outside_data NAME``.

A case begins with valid files, breaks one of them (a value, a type, a key, a field, an array, some bytes, its length), and reads. It must
end in an error that is meant for people, or in a right result. A new reader is one entry of :data:`READERS`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import resource
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import trimesh
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors
from scipy.io import loadmat, savemat

from pipelines.folder.images import ImageManifest
from sc3d.artefacts import Artefacts
from sc3d.config import MatchConfig
from sc3d.datasets.ap10k import read_ap10k
from sc3d.datasets.content import AnnotatedSet
from sc3d.datasets.keypoint_groups import keypoint_groups
from sc3d.datasets.label_export.diy_sc import read_annotations
from sc3d.datasets.proposal_flow import read_pf_pascal, read_pf_willow
from sc3d.datasets.segmentation import read_segmentation
from sc3d.datasets.spair import read_spair
from sc3d.datasets.spair_u import read_spair_u
from sc3d.datasets.table import read_table
from sc3d.datasets.toys.truth import ToyTruth, save_truth, toy_truth
from sc3d.datasets.tss import read_flow, read_tss
from sc3d.errors import Sc3dError
from sc3d.features import checksum, decode_features, encode_features
from sc3d.geometry.camera import Camera, Pose
from sc3d.geometry.mesh import MESH_FORMATS, Mesh, load_mesh
from sc3d.geometry.templates.load import TEMPLATE_FORMATS, load_template
from sc3d.grid import SIDE
from sc3d.images import decode_mask, encode_mask, load_photo
from sc3d.mask_files import load_mask
from sc3d.matching.described import Described
from sc3d.matching.label import match_pair
from sc3d.records import ImageRecord
from sc3d.schema import to_table
from sc3d.store import RunFolder
from tests.dataset_copies import (
    ap10k_entry,
    spair_image,
    spair_layout,
    spair_pair,
    write_ap10k,
    write_prepared_ap10k,
    write_tss,
)
from tests.pictures import HEIC
from tests.sc3d.matching.scene import random_features

Draw = st.DrawFn
Change = Callable[[Draw, bytes], bytes]

MEMORY = 3 << 30
"""Bytes that a case may take beyond what the process has when it begins."""

SECONDS = 60
"""Of the processor, that a case may take."""

# --- how files are broken ---------------------------------------------------------------------------------------------------------

TEXTS = (
    "",
    " ",
    "text",
    "a/../../b",
    "/dev/zero",
    "\x1b[2J",
    "\x00",
    "é猫",
    "-1",
    "1e999",
    "nan",
    "9" * 400,
    "x" * 3000,
    "[",
    '"',
    ";;",
    ",",
)
NUMBERS = (0, 1, -1, 2, 255, 256, 2**31 - 1, 2**31, 2**32, -(2**31), 2**63, -(2**63), 2**64, 0.5, 1e300, float("inf"), float("nan"))


def _deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


VALUES = (
    None,
    True,
    False,
    *NUMBERS,
    10**400,
    *TEXTS,
    [],
    {},
    [[]],
    {"a": []},
    [1, 2],
    [[1, 2]],
    ["1", "2"],
    _deep(150),
    _deep(400),
)


def _broken_value(draw: Draw, value: Any) -> Any:
    """A value of plain Python like ``value``, with another part somewhere."""
    parts = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if parts and draw(st.integers(0, 5)):
        part = draw(st.sampled_from(parts))
        action = draw(st.sampled_from(("inside", "inside", "inside", "delete", "repeat", "rename")))
        copy = dict(value) if isinstance(value, dict) else list(value)
        if action == "delete":
            del copy[part]
        elif action == "repeat" and isinstance(copy, list):
            copy.extend([copy[part]] * draw(st.sampled_from((1, 100, 20_000))))
        elif action == "rename" and isinstance(copy, dict):
            copy[draw(st.sampled_from(TEXTS))] = copy.pop(part)
        else:
            copy[part] = _broken_value(draw, copy[part])
        return copy
    return draw(st.sampled_from(VALUES))


def _json(draw: Draw, data: bytes) -> bytes:
    text = json.dumps(_broken_value(draw, json.loads(data)), ensure_ascii=draw(st.booleans()))
    return text.encode(draw(st.sampled_from(("utf-8", "utf-8", "utf-8", "latin-1", "utf-16"))), "replace")


def _text(draw: Draw, data: bytes) -> bytes:
    parts = re.split(r"(\W)", data.decode())
    at = draw(st.integers(0, len(parts) - 1))
    parts[at] = draw(st.sampled_from((*TEXTS, "\n", "\r", "\n" * 1000)))
    return "".join(parts).encode(draw(st.sampled_from(("utf-8", "utf-8", "utf-8-sig", "latin-1", "utf-16"))), "replace")


def _bytes(draw: Draw, data: bytes) -> bytes:
    at, n = draw(st.integers(0, max(len(data) - 1, 0))), draw(st.sampled_from((1, 2, 4, 8, 100)))
    action = draw(st.sampled_from(("cut", "set", "set", "number", "number", "insert", "delete", "repeat")))
    if action == "cut":
        return data[:at]
    if action == "set":
        return data[:at] + draw(st.binary(min_size=1, max_size=4)) + data[at + 1 :]
    if action == "number":
        value = draw(st.sampled_from([v for v in NUMBERS if isinstance(v, int)])) & 0xFFFFFFFF
        return data[:at] + value.to_bytes(4, draw(st.sampled_from(("little", "big")))) + data[at + 4 :]
    if action == "insert":
        return data[:at] + draw(st.binary(max_size=20)) * n + data[at:]
    return data[:at] + data[at + n :] if action == "delete" else data[:at] + data[at : at + 50] * n + data[at:]


def _head(draw: Draw, data: bytes) -> bytes:
    """Breaks the beginning of a file, where sizes and kinds stand."""
    return _bytes(draw, data[:64]) + data[64:]


def _broken_array(draw: Draw, array: np.ndarray) -> np.ndarray:
    action = draw(st.sampled_from(("value", "value", "value", "type", "flat", "short", "empty", "turned", "scalar", "long")))
    if action == "value" and array.size:
        copy = array.copy()
        value = draw(st.sampled_from(NUMBERS))
        # As a file may hold them, numbers that the type does not have are what is left of their bits.
        new = (
            np.asarray(value, np.float64)
            if array.dtype.kind == "f"
            else np.asarray(int(np.nan_to_num(value)) & 0xFFFFFFFF, np.uint64)
        )
        with np.errstate(all="ignore"):
            copy.reshape(-1)[draw(st.integers(0, array.size - 1))] = new.astype(array.dtype)
        return copy
    if action == "type":
        with np.errstate(all="ignore"):
            return array.astype(draw(st.sampled_from(("f2", "f4", "f8", "i1", "i4", "i8", "u1", "u2", "u8", "?"))))
    changed = {
        "flat": array.reshape(-1),
        "short": array[:-1] if array.ndim else array,
        "empty": array[:0] if array.ndim else array,
        "turned": array.T,
        "long": np.concatenate([array, array]) if array.ndim else array,
    }
    return np.ascontiguousarray(changed.get(action, array.reshape(-1)[:1].reshape(())))


def _broken_arrays(draw: Draw, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    name = draw(st.sampled_from(sorted(arrays)))
    action = draw(st.sampled_from(("change", "change", "change", "change", "delete", "swap")))
    others = {key: value for key, value in arrays.items() if key != name}
    if action == "delete":
        return others
    other = draw(st.sampled_from(sorted(arrays)))
    return {**others, name: arrays[other] if action == "swap" else _broken_array(draw, arrays[name])}


def _npz(draw: Draw, data: bytes) -> bytes:
    with np.load(io.BytesIO(data)) as arrays:
        broken = _broken_arrays(draw, dict(arrays))
    stream = io.BytesIO()
    np.savez_compressed(stream, **broken)  # type: ignore[arg-type]
    return stream.getvalue()


def _mat(draw: Draw, data: bytes) -> bytes:
    arrays = {k: v for k, v in loadmat(io.BytesIO(data)).items() if not k.startswith("__")}
    odd = (
        *arrays.values(), "text", np.array(["a", "bc"]), np.array([[1, "a"], [2.5, 2]], object), {"kps": np.ones((4, 2)), "x": "y"},
        np.ones((4, 2)) + 1j, np.zeros((0, 2)), np.ones((2, 2, 2)), np.ones((4, 2), bool), np.ones((20_000, 2)),
    )  # fmt: skip
    name = draw(st.sampled_from(("kps", "bbox")))
    value = draw(st.sampled_from(odd)) if draw(st.booleans()) else _broken_array(draw, arrays["kps"])
    stream, version = io.BytesIO(), draw(st.sampled_from(("5", "5", "4")))
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.ndim > 2:
        version = "5"
    savemat(stream, {**arrays, name: value}, do_compression=version == "5" and draw(st.booleans()), format=version)
    return stream.getvalue()


def _odd_tensors() -> tuple[torch.Tensor, ...]:
    point = torch.tensor([[14.0, 28.0]])
    return (
        point, point.expand(10**9, 2), point[0, 0].expand(10**5, 10**5), torch.tensor(3), torch.zeros(0, 2), torch.zeros(2, 3),
        torch.sparse_coo_tensor(torch.tensor([[0], [1]]), torch.ones(1), (10**9, 2)), torch.zeros(1, 2, device="meta"),
        torch.quantize_per_tensor(point, 0.1, 0, torch.quint8), point + 1j, point > 0, point.half(), point.bfloat16(), point * torch.nan,
        point.to_sparse_csr(),
    )  # fmt: skip


def _pt(draw: Draw, data: bytes) -> bytes:
    items = torch.load(io.BytesIO(data), weights_only=True)
    tensor = draw(st.sampled_from(_odd_tensors()))
    kind = draw(st.sampled_from(("value", "value", "tensor", "tensors", "shared")))
    if kind == "value":
        items = _broken_value(draw, items)
    else:
        key = draw(st.sampled_from(sorted(items[0])))
        row = items[0].get("source_kps")
        items[0][key] = {"tensor": tensor, "tensors": [[tensor, tensor]] * 2, "shared": [row, row] * 10_000}[kind]
        if draw(st.booleans()):
            items = [items[0]] * draw(st.sampled_from((1, 5000)))
    stream = io.BytesIO()
    torch.save(items, stream)
    return stream.getvalue()


def _sealed(draw: Draw, data: bytes) -> bytes:
    """A feature file with another array or scalar, and a checksum that fits."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    arrays = dict(load_safetensors(data))
    if draw(st.integers(0, 3)):
        arrays = _broken_arrays(draw, arrays)
    else:
        header["scalars"] = json.dumps(_broken_value(draw, json.loads(header["scalars"])))
    arrays = {k: np.array(v).reshape(v.shape or (1,)) for k, v in arrays.items()}
    return save_safetensors(arrays, {**header, "sc3d.crc32": checksum(header["scalars"], arrays)})


def _parquet(draw: Draw, data: bytes) -> bytes:
    table = pq.read_table(io.BytesIO(data))
    name = draw(st.sampled_from(table.column_names))
    odd: tuple[Any, ...] = (None, 1, 2.5, True, b"\xff", "x" * 3000, [1.0], [1.0, 2.0, 3.0, float("nan")], {"a": 1}, *TEXTS)
    column = pa.array([draw(st.sampled_from(odd))] * table.num_rows)
    table = table.set_column(table.column_names.index(name), name, column)
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()


CHANGES: Mapping[str, tuple[Change, ...]] = {
    ".json": (_json, _json, _json, _bytes),
    ".txt": (_text, _bytes),
    ".csv": (_text, _text, _bytes),
    ".obj": (_text, _bytes),
    ".npz": (_npz, _npz, _bytes),
    ".mat": (_mat, _bytes, _head),
    ".pt": (_pt, _pt, _bytes),
    ".safetensors": (_sealed, _sealed, _sealed, _bytes),
    ".parquet": (_parquet, _bytes),
}
"""Ending of a file -> how it is broken; others by their bytes alone."""

# --- the readers ------------------------------------------------------------------------------------------------------------------


def _spair(root: Path) -> None:
    for category, stem in (("cat", "a_1"), ("cat", "a_2"), ("dog", "b")):
        spair_image(root, category, stem)
    spair_layout(root, "trn", ["000001-a_1-a_2:cat", "000002-b-b:dog"])
    for split in ("val", "test"):
        spair_layout(root, split, [])


def _spair_u(root: Path) -> None:
    for stem in ("a", "b"):
        spair_image(root, "cat", stem, "ExtraImageAnnotation")
    spair_pair(root, "test", "000001-a-b:cat", "ExtraPairAnnotation")
    (root / "JPEGImages").mkdir()


def _ap10k(root: Path) -> None:
    write_ap10k(root, {("Felidae", "cat"): [ap10k_entry(1), ap10k_entry(2)], ("Canidae", "dog"): [ap10k_entry(3)]})


def _ap10k_prepared(root: Path) -> None:
    write_prepared_ap10k(root, {("Felidae", "cat"): [ap10k_entry(1), ap10k_entry(2)]})


def _pf_pascal(root: Path) -> None:
    (root / "JPEGImages").mkdir()
    folder = root / "Annotations" / "aeroplane"
    folder.mkdir(parents=True)
    for name in ("a", "b"):
        savemat(
            folder / f"{name}.mat", {"kps": np.array([[1.0, 2], [np.nan, np.nan], [5, 6]]), "bbox": np.array([[1, 2, 30, 20.0]])}
        )
    (root / "test_pairs_pf_pascal.csv").write_text("source_image,target_image,class,XA,YA,XB,YB\na.jpg,b.jpg,1,1;2,3;4,5;6,7;8\n")
    (root / "train_pairs_pf_pascal.csv").write_text("source_image,target_image,class,flip\na.jpg,b.jpg,1,0\n")


def _pf_willow(root: Path) -> None:
    numbers = ",".join(str(i) for i in range(40))
    (root / "test_pairs_pf.csv").write_text(f"header\ncar(G)/a.png,car(G)/b.png,{numbers}\n")


def _table(root: Path) -> None:
    (root / "t.csv").write_text(
        'path,category,image_id,split,bbox,mask_path\na.jpg,bus,a,trn,1 2 3 4,m.png\n"b,c.jpg",car,,val,,\n'
    )


def _parquet_table(root: Path) -> None:
    rows = {"path": ["a.jpg", "b.jpg"], "category": ["bus", "car"], "split": ["trn", ""], "bbox": [[1.0, 2, 3, 4], None]}
    pq.write_table(pa.table(rows), root / "t.parquet")


def _groups(root: Path) -> None:
    table = {"repeated": [[0, 1], [2]], "mirrored": [[0, 1]], "side": [1, 2, 0], "names": ["a", "b", "c"]}
    (root / "keypoints.json").write_text(json.dumps({"cat": table}))


def _picture() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)).resize((64, 48), Image.Resampling.BICUBIC)


def _photos(root: Path) -> None:
    _picture().save(root / "a.jpg")
    _picture().save(root / "b.jpg", progressive=True, restart_marker_rows=1)
    _picture().save(root / "c.png")
    _picture().quantize(16).save(root / "d.png")
    for name in ("e.webp", "f.tif", "g.bmp", "h.gif", "i.ppm"):
        _picture().save(root / name)
    _picture().save(root / "j.tif", compression="tiff_lzw")
    _picture().save(root / "k.avif")
    for photo in HEIC.iterdir():
        (root / photo.name).write_bytes(photo.read_bytes())


def _mask(root: Path) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 10:40] = 255
    Image.fromarray(mask).save(root / "m.png")
    Image.fromarray(mask).convert("P").save(root / "p.png")


def _mask_of_numbers(root: Path) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 10:40] = 255
    _mask(root)
    np.save(root / "a.npy", mask)
    np.save(root / "f.npy", np.asfortranarray(mask.astype(np.float32))[None])
    runs = [490, *[20, 28] * 29, 20, 1170]
    (root / "r.json").write_text(json.dumps({"size": [48, 64], "counts": runs}))
    (root / "s.json").write_text(json.dumps({"segmentation": {"size": [48, 64], "counts": "Z?d0l0" + "0" * 57 + "fS1"}}))


def _stored_mask(root: Path) -> None:
    (root / "m.png").write_bytes(encode_mask(np.eye(20, dtype=bool)))


def _truth(root: Path) -> None:
    box = trimesh.creation.box()
    camera, pose = Camera(np.array([[50.0, 0, 20], [0, 50, 15], [0, 0, 1]]), 40, 30), Pose(np.eye(3), np.array([0, 0, 4.0]), 1.0)
    mask = np.ones((30, 40), bool)
    save_truth(
        root / "t.npz", ToyTruth(Mesh(box.vertices, box.faces), camera, pose, mask, mask, np.zeros((2, 3)), np.ones(2, bool))
    )


def _meshes(root: Path) -> None:
    for ending in MESH_FORMATS:
        trimesh.creation.box().export(root / f"m{ending}")
    _fans(root)


def _fans(root: Path) -> None:
    """The corners of a box as one fan."""
    data: bytes = trimesh.creation.box().export(file_type="glb")
    length = int.from_bytes(data[12:16], "little")
    header = json.loads(data[20 : 20 + length])
    header["meshes"][0]["primitives"][0]["mode"] = 6
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    size = (len(data) - length + len(text)).to_bytes(4, "little")
    (root / "fan.glb").write_bytes(data[:8] + size + len(text).to_bytes(4, "little") + data[16:20] + text + data[20 + length :])


def _templates(root: Path) -> None:
    painted = trimesh.creation.box()
    painted.visual.face_colors = np.arange(48).reshape(12, 4) * 5
    for ending in (kind for kind in TEMPLATE_FORMATS if kind != ".gltf"):
        painted.export(root / f"m{ending}")
    for name, data in painted.export(file_type="gltf").items():
        (root / name).write_bytes(data)
    _fans(root)


def _flow(root: Path) -> None:
    write_tss(root, "JODS/car_1")


def _diy_sc(root: Path) -> None:
    item = {
        "src_imname": "a.jpg", "trg_imname": "b.jpg", "src_imsize": [20, 30], "tgt_imsize": [40, 50], "num_kps": 2,
        "source_kps": [[0.0, 14.0], [28.0, 0.0]], "target_kps": [[28, 826], [14, 14]], "img_size_kps": 840, "flip": False,
    }  # fmt: skip
    torch.save([item, {**item, "src_imname": "c.jpg"}], root / "car_anns.pt")


def _features(root: Path) -> None:
    (root / "f.safetensors").write_bytes(encode_features(random_features(1)))


def _records(root: Path) -> None:
    images = [ImageRecord("a", "/a.jpg", "bus", bbox=np.float32([1, 2, 3, 4]), inputs="1"), ImageRecord("b", "/b.jpg", "car")]
    RunFolder(root).write_table("images.parquet", to_table(ImageRecord, images), rows_a_group=1)


def _read_records(path: Path) -> None:
    run = RunFolder(path.parent)
    images = run.read_records(ImageRecord, path.name)
    manifest = ImageManifest(run)
    assert len(manifest) == len(images)
    # One that is changed may be out of order, or name one twice; what is found is what was asked for.
    for image_id in {*manifest, "c"}:
        with contextlib.suppress(KeyError):
            assert manifest[image_id].image_id == image_id
    # Its ids and inputs, as a catalogue of shards reads them.
    Artefacts(run, "stage", "shards", "r", ImageRecord, "image_id").all_ids()


def _check_set(found: AnnotatedSet) -> None:
    ids = {image.image_id for image in found.images}
    assert len(ids) == len(found.images)
    assert all(pair.source_id in ids and pair.target_id in ids for pair in found.pairs)
    for image in found.images:
        assert image.keypoint_xy is None or np.isfinite(image.keypoint_xy).all()
        assert image.bbox is None or (
            np.isfinite(image.bbox).all() and image.bbox[0] < image.bbox[2] and image.bbox[1] < image.bbox[3]
        )


def _check_annotations(path: Path) -> None:
    for annotation in read_annotations(path.read_bytes(), "file"):
        for cells in (annotation.source_cells, annotation.target_cells):
            assert len(cells) == len(annotation.source_cells)
            assert ((cells >= 0) & (cells < SIDE * SIDE)).all()


def _check_features(path: Path) -> None:
    described = Described(decode_features(path.read_bytes(), "file"), MatchConfig())
    match_pair(described, described, "toy", MatchConfig())


def _check_photo(image: np.ndarray, cut_out: np.ndarray | None) -> None:
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert cut_out is None or (cut_out.dtype == np.bool_ and cut_out.shape == image.shape[:2])


def _each(read: Callable[[Path], object]) -> Callable[[Path], object]:
    """Reads every file of a folder; each must be read or refused."""

    def refusal(path: Path) -> Sc3dError | None:
        try:
            read(path)
        except Sc3dError as error:
            return error
        return None

    def all_of(root: Path) -> None:
        errors = [refusal(path) for path in sorted(path for path in root.rglob("*") if path.is_file())]
        first = next((error for error in errors if error is not None), None)
        if first is not None:
            raise first

    return all_of


@dataclass(frozen=True)
class Reader:
    """``write`` makes valid files in a folder; ``read`` reads them, and checks what it gets."""

    write: Callable[[Path], None]
    read: Callable[[Path], object]


READERS: Mapping[str, Reader] = {
    "spair": Reader(_spair, lambda root: _check_set(read_spair(root))),
    "spair-u": Reader(_spair_u, lambda root: _check_set(read_spair_u(root))),
    "ap10k": Reader(_ap10k, lambda root: _check_set(read_ap10k(root))),
    "ap10k-prepared": Reader(_ap10k_prepared, lambda root: _check_set(read_ap10k(root))),
    "pf-pascal": Reader(_pf_pascal, lambda root: _check_set(read_pf_pascal(root))),
    "pf-willow": Reader(_pf_willow, lambda root: _check_set(read_pf_willow(root))),
    "tss": Reader(_flow, lambda root: _check_set(read_tss(root))),
    "flow": Reader(_flow, lambda root: read_flow(root / "JODS" / "car_1" / "flow1.flo")),
    "table": Reader(_table, lambda root: _check_set(AnnotatedSet(read_table(str(root / "t.csv")), []))),
    "parquet-table": Reader(_parquet_table, lambda root: _check_set(AnnotatedSet(read_table(str(root / "t.parquet")), []))),
    "keypoint-groups": Reader(_groups, lambda root: keypoint_groups(root, "cat")),
    "photo": Reader(_photos, _each(lambda path: _check_photo(*load_photo(str(path))))),
    "mask": Reader(_mask, _each(lambda path: load_mask(str(path), (64, 48)))),
    "mask-of-numbers": Reader(_mask_of_numbers, _each(lambda path: load_mask(str(path), (64, 48)))),
    "segmentation": Reader(_mask, _each(lambda path: read_segmentation(path, "car"))),
    "stored-mask": Reader(_stored_mask, _each(lambda path: decode_mask(path.read_bytes()))),
    "truth": Reader(_truth, _each(toy_truth)),
    "mesh": Reader(_meshes, _each(load_mesh)),
    "template": Reader(_templates, _each(lambda path: load_template(path) if path.suffix in TEMPLATE_FORMATS else None)),
    "diy-sc": Reader(_diy_sc, _each(_check_annotations)),
    "features": Reader(_features, _each(_check_features)),
    "records": Reader(_records, _each(_read_records)),
}


@dataclass
class Count:
    """How many cases were refused, and how many were read."""

    refused: int = 0
    read: int = 0


def fuzz(name: str, cases: int, folder: Path, seed: int | None = None) -> Count:
    """Run cases of a reader in a folder of their own; raises what the reader raises, if it is not meant for people."""
    reader, count = READERS[name], Count()
    folder.mkdir()
    reader.write(folder)
    valid = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    reader.read(folder)

    @settings(
        max_examples=cases, deadline=None, database=None, derandomize=seed is None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def run(data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(valid)))
        change = data.draw(st.sampled_from(CHANGES.get(path.suffix, (_bytes, _head))))
        path.write_bytes(change(data.draw, valid[path]))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            reader.read(folder)
            count.read += 1
        except Sc3dError:
            count.refused += 1
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            path.write_bytes(valid[path])

    if seed is not None:
        from hypothesis import seed as seeded

        run = seeded(seed)(run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run()
    return count


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(READERS))
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # What is loaded at the first use counts as there, not as a case's.
        fuzz(options.name, 1, Path(folder) / "first", 0)
        _limit_memory()
        count = fuzz(options.name, options.cases, Path(folder) / "data", options.seed)
    sys.stdout.write(f"{options.name}: {count.refused} refused, {count.read} read\n")


if __name__ == "__main__":
    main()
