"""The examples of docs/python.md are short, and run in their order on a toy category; so does README's."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

import sc3d
from sc3d.datasets.toys import ToysConfig, generate_toys
from sc3d.geometry.camera import Camera, Pose, looking_from
from sc3d.geometry.posed_mesh import PosedMesh
from sc3d.store import RunFolder
from tests.pipelines.label_run import make_run
from tests.posed_toys import SIZE, place_features, posed_toy, shown_in_both, toy_mesh
from training.adapter import Adapter, save_adapter

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
README = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
MOST_LINES = 8


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the examples read."""
    mesh = toy_mesh(0, "bus")
    trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(tmp_path / "bus.glb")
    camera = Camera.from_focal(1.2 * SIZE[0], *SIZE)
    poses = {"bus-1": Pose(looking_from(40, 15, 0), [0.1, 0.05, 2.2]), "bus-2": Pose(looking_from(65, 15, 0), [-0.1, 0, 2.5])}  # type: ignore[arg-type]
    photos = {name: PosedMesh(mesh, pose, camera) for name, pose in poses.items()}
    for photo, posed in photos.items():
        np.save(tmp_path / f"{photo}-mask.npy", posed.object_mask)
        np.save(tmp_path / f"{photo}-features.npy", place_features(posed, channels=16))
    source_xy, target_xy = shown_in_both(*photos.values())
    np.savez(tmp_path / "matches.npz", source_xy=source_xy, target_xy=target_xy)
    save_adapter(Adapter([16], 8), tmp_path / "adapter.safetensors")
    make_run(str(tmp_path / "runs" / "buses"), tmp_path / "photos", posed=photos)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    return tmp_path


def run_block(code: str, names: dict[str, Any]) -> dict[str, Any]:
    exec(compile(code, "docs/python.md", "exec"), names)  # noqa: S102 - the page is ours
    return names


def test_each_example_is_short() -> None:
    lines = {code: [line for line in code.splitlines() if line.strip()] for code in BLOCKS}
    assert [code for code, found in lines.items() if len(found) > MOST_LINES] == []
    assert len(BLOCKS) == 13


def test_links_of_the_page_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


@pytest.mark.usefixtures("folder")
def test_the_examples_do_what_the_page_says() -> None:
    pytest.importorskip("datasets")
    pytest.importorskip("duckdb")
    align, geodesic, pose, verify, of_run, own, inflate, read, loader, huggingface, duck, adapter, _ = BLOCKS
    names = run_block(align, {})
    assert names["found"].iou_after > 0.9
    run_block(geodesic, names)
    assert names["distances"].shape == (2, len(names["mesh"].vertices))
    assert set(names["near_first"]) == set(np.flatnonzero(names["distances"][0] <= 0.1 * names["mesh"].diagonal))
    run_block(verify, run_block(pose, names))
    n = len(names["own"]["source_xy"])
    assert len(names["verified"]) == n
    assert n / 2 < len(names["kept"][0]) == len(names["kept"][1]) == names["verified"].keep.sum()
    run_block(of_run, names)
    assert names["verified"].keep.sum() > n / 2
    run_block(own, names)
    assert 50 < names["labels"].keep.sum() == len(names["kept"][0])
    assert run_block(inflate, names)["labels"].keep.sum() > 50
    run_block(read, names)
    total = len(names["matches"])
    assert 0 < len(names["near"]) < total
    run_block(loader, names)
    assert names["source_xy"].shape == names["target_xy"].shape
    run_block(huggingface, names)
    assert len(names["pairs"]) == len(names["labels"])
    assert np.shape(names["pairs"][1]["source_xy"])[1] == 2
    run_block(duck, names)
    assert names["by_category"]["matches"].sum() == total
    run_block(adapter, names)
    assert names["adapted"][0]["adapter"].shape == (*names["features"][0]["mine"].shape[:2], 8)
    assert len(names["labels"]) > 50


def test_the_example_of_readme_works(folder: Path) -> None:
    """The first of its page is the front door."""
    source, target = posed_toy(1, 40), posed_toy(2, 65)
    names = {"mesh": source.mesh, "pose": source.pose, "camera": source.camera}
    names |= {"other_mesh": target.mesh, "other_pose": target.pose, "other_camera": target.camera}
    names |= {"source_xy": np.array([[80.5, 60.5]]), "target_xy": np.array([[80.5, 60.5]])}
    (code,) = [block for block in README if "import sc3d" in block]
    run_block(code, names)
    assert len(names["verified"]) == 1
    assert len(names["matches"]) > 100


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_whole_run_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate_toys(tmp_path / "toys", ToysConfig(categories=("bus",), images={"trn": 3, "val": 0, "test": 0}, workers=1))
    (tmp_path / "photos" / "buses").mkdir(parents=True)
    for photo in (tmp_path / "toys" / "JPEGImages").rglob("*.jpg"):
        shutil.copy(photo, tmp_path / "photos" / "buses")
    monkeypatch.chdir(tmp_path)
    names = run_block(BLOCKS[-1], {})
    assert len(names["labels"]) == 6
    source, target = (
        sc3d.meshes(names["run"], unsure=True)[image_id] for image_id in names["labels"].pairs()["pair_id"][0].as_py().split("~")
    )
    assert sc3d.verify(source, target, [[1.5, 1.5]], [[1.5, 1.5]]).rejected_by.tolist() == ["source surface"]
    assert RunFolder(names["run"].uri).read_json("timings/orient.json")["upstream"].keys() == {"reconstruct", "render"}
