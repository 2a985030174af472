"""Template files: what is read of good ones, and what is said of bad ones."""

import json
import os

import numpy as np
import pytest
import trimesh

from sc3d.errors import GeometryError
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.templates.load import LONGEST_EDGE, axes_rotation, load_template, make_template
from sc3d.geometry.templates.template import GREY


def wedge() -> trimesh.Trimesh:
    """2 long (z), 1 wide (x), 0.5 high (y), and high only at its front."""
    mesh = trimesh.creation.box((1.0, 0.5, 2.0))
    vertices = np.array(mesh.vertices)
    vertices[(vertices[:, 1] > 0) & (vertices[:, 2] < 0), 1] = -0.1
    return trimesh.Trimesh(vertices, mesh.faces, process=False)


def save(mesh, path):
    path.write_bytes(mesh.export(file_type=path.suffix[1:]) if path.suffix != ".obj" else mesh.export(file_type="obj").encode())
    return path


def is_the_wedge(mesh: Mesh) -> bool:
    x, y, z = np.ptp(mesh.vertices, axis=0)
    front = mesh.vertices[mesh.vertices[:, 2] > 0.45, 1].max()
    back = mesh.vertices[mesh.vertices[:, 2] < -0.45, 1].max()
    return bool(np.allclose((x, y, z), (0.5, 0.25, 1.0), atol=0.01) and front > back + 0.1)


@pytest.mark.parametrize("kind", ["glb", "obj", "ply"])
def test_every_format_gives_the_mesh_in_its_unit_box(tmp_path, kind):
    template = load_template(save(wedge(), tmp_path / f"wedge.{kind}"))
    assert is_the_wedge(template.mesh)
    assert np.allclose(template.mesh.vertices.min(axis=0), -template.mesh.vertices.max(axis=0), atol=1e-6)


def test_a_scene_in_millimetres_with_z_up_facing_away_in_several_open_pieces(tmp_path):
    # y up, front +z -> z up, front -y, with the front turned to +y by the option.
    turn = np.array([[-1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    whole = wedge().apply_transform(turn).apply_scale(1000.0)
    pieces = [whole.submesh([np.arange(i, len(whole.faces), 2)], append=True) for i in (0, 1)]
    path = tmp_path / "pieces.glb"
    path.write_bytes(trimesh.Scene(pieces).export(file_type="glb"))
    assert not pieces[0].is_watertight
    assert is_the_wedge(load_template(path, up="+z", front="+y").mesh)
    assert not is_the_wedge(load_template(path, up="+z", front="-y").mesh)


def test_a_mesh_of_a_million_faces_is_decimated(tmp_path):
    sphere = trimesh.creation.icosphere(subdivisions=8)
    assert len(sphere.faces) > 1_000_000
    mesh = load_template(save(sphere, tmp_path / "fine.ply"), max_vertices=1000).mesh
    assert len(mesh.vertices) < 4000
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 0.5).max() < 0.03


def test_edges_are_short_enough_to_match_by_vertices():
    box = wedge()
    template = make_template(np.array(box.vertices), np.array(box.faces))
    corners = template.mesh.vertices[template.mesh.faces]
    assert np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max() <= LONGEST_EDGE * (1 + 1e-5)


def test_colours_of_faces_survive_cleaning_and_files_without_are_grey(tmp_path):
    mesh = wedge()
    mesh.visual.face_colors = np.where(mesh.triangles_center[:, 2:] > 0, [255, 0, 0, 255], [0, 0, 255, 255])
    template = load_template(save(mesh, tmp_path / "painted.ply"))
    middles = template.mesh.vertices[template.mesh.faces].mean(axis=1)
    at_front, at_back = middles[:, 2] > 0.48, middles[:, 2] < -0.48
    assert (template.colours[at_front].argmax(axis=1) == 0).all()
    assert (template.colours[at_back].argmax(axis=1) == 2).all()
    plain = load_template(save(wedge(), tmp_path / "plain.obj"))
    assert np.ptp(plain.colours) == pytest.approx(0, abs=1e-6)
    assert make_template(np.array(mesh.vertices), np.array(mesh.faces)).colours.min() == pytest.approx(GREY)


def test_same_file_same_digest_and_another_content_another(tmp_path):
    one, same = (load_template(save(wedge(), tmp_path / f"{name}.glb")) for name in ("a", "b"))
    other = wedge()
    other.vertices[0] *= 1.05
    assert one.digest == same.digest != load_template(save(other, tmp_path / "c.glb")).digest


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.glb", b"", "not a readable mesh"),
        ("a.glb", b"glTF\x02\x00\x00\x00garbage", "not a readable mesh"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "obj"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "at least 4 faces"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 1\n", "ply"),
        ("a.stl", b"solid", "templates are read from"),
        ("a.fbx", b"Kaydara", "templates are read from"),
    ],
)
def test_bad_files_are_geometry_errors_that_name_them(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(GeometryError, match=said) as caught:
        load_template(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_coordinates_that_are_no_numbers_are_refused(tmp_path):
    mesh = wedge()
    lines = mesh.export(file_type="obj").splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("v "))
    lines[first] = "v nan 0 0"
    (tmp_path / "nan.obj").write_text("\n".join(lines))
    with pytest.raises(GeometryError, match="not finite"):
        load_template(tmp_path / "nan.obj")


def test_pipes_and_missing_files_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.glb")
    for name in ("pipe.glb", "missing.glb"):
        with pytest.raises(GeometryError, match="cannot be read"):
            load_template(tmp_path / name)


@pytest.mark.parametrize("uri", ["../secret.bin", "/etc/hostname", "https://example.org/a.bin", "file:///etc/hostname"])
def test_nothing_outside_the_files_folder_is_read(tmp_path, uri):
    folder = tmp_path / "templates"
    folder.mkdir()
    exported = wedge().export(file_type="gltf")
    for name, data in exported.items():
        (folder / name).write_bytes(data)
    assert is_the_wedge(load_template(folder / "model.gltf").mesh)
    tree = json.loads(exported["model.gltf"])
    buffer = tree["buffers"][0]["uri"]
    (tmp_path / "secret.bin").write_bytes((folder / buffer).read_bytes())
    for one in tree["buffers"]:
        one["uri"] = uri
    (folder / "model.gltf").write_text(json.dumps(tree))
    with pytest.raises(GeometryError):
        load_template(folder / "model.gltf")


@pytest.mark.parametrize(("up", "front"), [("+y", "-y"), ("+y", "+y"), ("y", "+z"), ("+w", "+z")])
def test_axes_that_are_no_two_directions_are_refused(up, front):
    with pytest.raises(GeometryError, match=r"template|one of"):
        axes_rotation(up, front)


@pytest.mark.parametrize(("up", "front"), [("+y", "+z"), ("+z", "-y"), ("-x", "+y"), ("+y", "-x")])
def test_axes_turn_without_mirroring(up, front):
    turn = axes_rotation(up, front)
    assert np.linalg.det(turn) == pytest.approx(1)
    axis = {"+": 1, "-": -1}
    for name, expected in ((up, [0, 1, 0]), (front, [0, 0, 1])):
        assert (turn @ (np.eye(3)["xyz".index(name[1])] * axis[name[0]]) == expected).all()
