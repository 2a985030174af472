"""Label files of other programs, piece by piece; and the page that tells people how to read ours, run as it is written."""

from __future__ import annotations

import io
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from web_server import WebServer

from sc3d.config import DownloadConfig
from sc3d.datasets.label_export import huggingface
from sc3d.datasets.label_export.card import column_table, table
from sc3d.datasets.label_export.counts import HISTOGRAM, LabelCounts
from sc3d.datasets.label_export.diy_sc import Annotation, AnnotationWriter, annotation_of, labels_of, read_annotations
from sc3d.datasets.label_export.images import LabelledImages
from sc3d.errors import InputError, SchemaError
from sc3d.grid import SIDE, Letterbox
from sc3d.records import Labels
from sc3d.schema import to_table
from sc3d.store import RunFolder

DOCS = Path(__file__).parents[3] / "docs" / "labels.md"
CELLS = SIDE * SIDE


def make_labels(number: int, count: int, category: str = "bus") -> Labels:
    rng = np.random.default_rng(number)
    ids = f"a{number}~b{number}", f"a{number}", f"b{number}", category
    xy, other = rng.uniform(0, 300, (2, count, 2))
    found = Labels(*ids, xy, other, rng.random(count), rng.random(count), rng.random(count), 90.0, 4.0, count + 9, count + 3)
    return found.replace(n_kept=count, tau_cc=0.05, tau_geo=0.04)


def make_annotation(count: int, seed: int = 0, name: str = "a.jpg") -> Annotation:
    rng = np.random.default_rng(seed)
    source, target = rng.integers(0, CELLS, (2, count))
    return Annotation(name, "b.jpg", source, target, (200, 100), (50, 60))


def written(annotations: list[Annotation]) -> bytes:
    stream = io.BytesIO()
    with AnnotationWriter(stream) as writer:
        for annotation in annotations:
            writer.add(annotation)
    assert writer.count == len(annotations)
    return stream.getvalue()


def saved(items: object) -> bytes:
    stream = io.BytesIO()
    torch.save(items, stream)
    return stream.getvalue()


def plain(**changes: Any) -> dict[str, Any]:
    item = {"src_imname": "a.jpg", "trg_imname": "b.jpg", "source_kps": [[0.0, 14.0]], "target_kps": [[28, 826]], "num_kps": 1}
    return {**item, **changes}


@given(
    size=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    other=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    cells=st.lists(st.tuples(st.integers(0, CELLS - 1), st.integers(0, CELLS - 1)), min_size=1, max_size=30, unique=True),
)
def test_cells_survive_the_way_there_and_back(size: tuple[int, int], other: tuple[int, int], cells: list[tuple[int, int]]) -> None:
    source, target = np.array(sorted(cells)).T
    labels = labels_of([Annotation("a", "b", source, target)], ("a", "b"), (size, other), "bus")
    there = next(read_annotations(written([annotation_of(labels, ("a.jpg", "b.jpg"), (size, other))]), "file"))
    np.testing.assert_array_equal(there.source_cells, source)
    np.testing.assert_array_equal(there.target_cells, target)
    assert (there.source_size, there.target_size) == (size, other)
    back = labels_of([there], ("a", "b"), (size, other), "bus")
    np.testing.assert_array_equal(back.source_xy, labels.source_xy)
    np.testing.assert_array_equal(back.target_xy, labels.target_xy)


def test_a_file_written_piece_by_piece_is_what_torch_saves() -> None:
    annotations = [make_annotation(n, n, f"photo {n} ü.jpg") for n in (1, 70, 0, 400, 2)] + [make_annotation(3)] * 2000
    found = torch.load(io.BytesIO(written(annotations)), weights_only=True)
    assert found == torch.load(io.BytesIO(saved(found)), weights_only=True)
    assert [item["num_kps"] for item in found[:5]] == [1, 70, 0, 400, 2]
    assert len(found) == 2005
    first = make_annotation(70, 70)
    expected = np.stack([first.source_cells % 60, first.source_cells // 60], 1) * 14
    np.testing.assert_array_equal(found[1]["source_kps"], expected)
    assert found[1]["src_imname"] == "photo 70 ü.jpg"


def test_an_empty_file_is_an_empty_list() -> None:
    assert torch.load(io.BytesIO(written([])), weights_only=True) == []
    assert list(read_annotations(written([]), "file")) == []


def test_coordinates_are_top_left_corners_and_off_grid_ones_their_cell() -> None:
    letterbox = Letterbox(200, 100)
    labels = labels_of([make_annotation(9)], ("a", "b"), ((200, 100), (50, 60)), "bus")
    corner = letterbox.to_square(labels.source_xy) - 7
    cells = np.unique(np.stack([make_annotation(9).source_cells, make_annotation(9).target_cells], 1), axis=0)[:, 0]
    np.testing.assert_allclose(corner, np.stack([cells % 60, cells // 60], 1) * 14, atol=1e-3)
    found = next(read_annotations(saved([plain(source_kps=[[27.99, 839.99]])]), "file"))
    assert found.source_cells.tolist() == [59 * 60 + 1]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (plain(source_kps=[[840.0, 0.0]]), r"source_kps holds \[840\.0, 0\.0\], which is outside the frame \[0, 840\)"),
        (plain(target_kps=[[1.0, -0.1]]), "target_kps holds"),
        (plain(source_kps=[[float("nan"), 0.0]]), "outside the frame"),
        (plain(source_kps=[[1.0, 2.0, 3.0]]), r"must be a list of \[x, y\]"),
        (plain(source_kps=[[1.0], [1.0, 2.0]]), r"must be a list of \[x, y\]"),
        (plain(source_kps=[["1", "2"]]), r"must be a list of \[x, y\]"),
        (plain(source_kps="0,0"), r"must be a list of \[x, y\]"),
        (plain(source_kps=None), r"must be a list of \[x, y\]"),
        (plain(target_kps=[]), "1 source and 0 target keypoints"),
        (plain(num_kps=2), "num_kps is 2"),
        (plain(img_size_kps=960), "a frame of 960 pixels"),
        (plain(src_imname=None), "must be file names"),
        (plain(src_imsize=(0, 5)), "src_imsize must be width and height"),
        (plain(tgt_imsize="big"), "tgt_imsize must be width and height"),
        ([], "annotation 1 is a list"),
    ],
)
def test_malformed_annotations_are_named(item: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        list(read_annotations(saved([plain(), item]), "car_anns.pt"))
    assert "car_anns.pt: annotation 1" in str(caught.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_files_of_another_kind_are_refused() -> None:
    with pytest.raises(InputError, match="holds a dict"):
        list(read_annotations(saved({"annotations": []}), "file"))
    for data in (b"", b"not a file", zipped(b"junk"), pickle.dumps([plain()]), saved(torch.nn.Linear(2, 2))):
        with pytest.raises(InputError, match="cannot be read as an annotation file"):
            list(read_annotations(data, "file"))


def zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return stream.getvalue()


def test_files_cut_short_are_refused() -> None:
    data = written([make_annotation(40)])
    for length in range(0, len(data), 37):
        with pytest.raises(InputError, match="is it cut short"):
            list(read_annotations(data[:length], "file"))


class Attack:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    for data in (saved([plain(src_imname=Attack(str(tmp_path / "was here")))]), pickle.dumps(Attack(str(tmp_path / "was here")))):
        with pytest.raises(InputError):
            list(read_annotations(data, "file"))
    assert not (tmp_path / "was here").exists()


def test_tensors_and_integers_are_read_as_well() -> None:
    found = next(read_annotations(saved([plain(source_kps=torch.tensor([[14, 0]]), flip=True)]), "file"))
    assert found.source_cells.tolist() == [1]
    assert found.mirrored
    assert found.source_size is None


POINT = torch.tensor([[14.0, 28.0]])


@pytest.mark.parametrize(
    "value",
    [
        POINT.expand(10**9, 2),
        torch.sparse_coo_tensor(torch.tensor([[0], [1]]), torch.ones(1), (10**9, 2)),
        torch.zeros(1, 2, device="meta"),
        torch.quantize_per_tensor(POINT, 0.1, 0, torch.quint8),
        POINT + 1j,
        POINT > 0,
        POINT[0],
        [[POINT[0, 0], POINT[0, 1]]],
        [POINT[0, 0].expand(10**9)],
        [[True, False]],
        [[10**400, 0]],
        [[0.0, 14.0]] * 200_000,
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'layout', '')} {getattr(value, 'dtype', '')}",
)
@pytest.mark.filterwarnings("ignore:.*beta state", "ignore:.*deprecated")
def test_keypoints_that_are_not_there_as_numbers_are_refused(value: object) -> None:
    """A tensor of 10^9 rows may be one row in the file, and gigabytes as numbers."""
    with pytest.raises(InputError, match=r"file: annotation 0 .*: source_kps must be a list of \[x, y\], at most 100000"):
        list(read_annotations(saved([plain(source_kps=value)]), "file"))


@pytest.mark.parametrize("key", ["src_imname", "src_imsize", "num_kps", "img_size_kps", "flip"])
@pytest.mark.filterwarnings("ignore:.*beta state")
def test_tensors_where_other_values_belong_are_refused(key: str) -> None:
    for value in (POINT, POINT[0, 0], POINT.expand(10**9, 2), [POINT, POINT], "a\x1b[2J"):
        with pytest.raises(InputError, match="file: annotation 0"):
            list(read_annotations(saved([plain(**{key: value})]), "file"))


def test_a_file_that_names_one_part_many_times_is_refused() -> None:
    points = [[0.0, 14.0]] * 10_000
    with pytest.raises(InputError, match=r"annotation .: more keypoints than the file of .* bytes can hold"):
        list(read_annotations(saved([plain(source_kps=points, target_kps=points, num_kps=10_000)] * 10_000), "file"))


def test_a_packed_file_is_refused() -> None:
    """Some kilobytes of it may be gigabytes."""
    data = saved([plain(src_imname="a" * 1000, more=bytes(50_000_000))])
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert len(packed.getvalue()) < 100_000
    with pytest.raises(InputError, match="its parts are packed"):
        list(read_annotations(packed.getvalue(), "file"))


def test_points_of_a_sliced_and_chunked_table() -> None:
    rows = [make_labels(n, count) for n, count in enumerate((3, 0, 5, 1))]
    whole = to_table(Labels, rows)
    pieces = pa.concat_tables([whole.slice(2, 2), whole.slice(0, 1), whole.slice(1, 1)])
    found = huggingface.pair_table(pieces)
    assert found.schema.equals(huggingface.pair_schema())
    for row, index in zip(found.to_pylist(), (2, 3, 0, 1), strict=True):
        assert row["pair_id"] == rows[index].pair_id
        np.testing.assert_array_equal(np.float32(row["source_xy"]).reshape(-1, 2), rows[index].source_xy)
        np.testing.assert_array_equal(np.float32(row["target_xy"]).reshape(-1, 2), rows[index].target_xy)
    odd = whole.set_column(4, "source_xy", pa.array([[1.0], [], [1.0], [1.0]], pa.list_(pa.float32())))
    with pytest.raises(SchemaError, match="odd length"):
        huggingface.pair_table(odd)


def test_counts_add_up() -> None:
    rows = [make_labels(n, count) for n, count in enumerate((0, 1, 9, 10, 29, 30, 1000))]
    whole = LabelCounts.of(to_table(Labels, rows))
    parts = LabelCounts.total(LabelCounts.of(to_table(Labels, rows[start : start + 2])) for start in range(0, 8, 2))
    assert (parts.pairs, parts.labels, parts.candidates, parts.cycle, parts.histogram) == (
        whole.pairs, whole.labels, whole.candidates, whole.cycle, whole.histogram,
    )  # fmt: skip
    assert (whole.pairs, whole.labels) == (7, 1079)
    assert dict(zip(HISTOGRAM, whole.histogram, strict=True)) == {0: 1, 1: 2, 10: 2, 30: 1, 100: 0, 300: 0, 1000: 1}
    assert whole.rejected == pytest.approx(7 * 9 / (1079 + 7 * 9))


def test_table_escapes_what_would_break_it() -> None:
    assert table(["a"], [["x|y\nz"]]).splitlines()[2] == "| x\\|y z |"


def test_documented_columns_are_those_of_the_record() -> None:
    found = re.search(r"<!-- columns:.*?-->\n(.*?)\n<!-- end of columns -->", DOCS.read_text(), re.DOTALL)
    assert found is not None
    assert found[1] == column_table(Labels), "docs/labels.md does not show the columns of sc3d.records.Labels as they are now"


@pytest.fixture
def documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Labels]:
    """A folder to which the commands on the page apply, and the labels in it."""
    rows = [
        make_labels(n, count, category)
        for n, (count, category) in enumerate([(3, "bus"), (0, "bus"), (5, "bus"), (4, "school bus")])
    ]
    run, exported = RunFolder(tmp_path / "runs" / "buses"), RunFolder(tmp_path / "exports" / "buses")
    for number, row in enumerate(rows):
        run.write_records(Labels, f"labels/3f2a9c01b7de/category={row.category}/{number}.parquet", [row])
    exported.write_table(huggingface.data_file("trn", 0), huggingface.pair_table(to_table(Labels, rows)))
    images = pa.table([["a"], ["a.jpg"], ["bus"], ["trn"], [1], [1]], schema=huggingface.image_schema(False))
    exported.write_table(huggingface.image_file(None), images)
    header = huggingface.DatasetHeader("buses", None, {"trn": (4, 1000)}, (1, 10))
    exported.write_bytes("README.md", header.yaml().encode())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    return rows


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(), re.DOTALL)


def test_pyarrow_example_works(documented: list[Labels]) -> None:
    names: dict[str, Any] = {}
    exec(blocks("python")[0], names)  # noqa: S102 - the page is ours
    buses = [row for row in documented if row.category == "bus"]
    np.testing.assert_array_equal(names["source_xy"], np.concatenate([row.source_xy for row in buses]))
    np.testing.assert_array_equal(names["target_xy"], np.concatenate([row.target_xy for row in buses]))
    np.testing.assert_array_equal(names["cosine"], np.concatenate([row.cosine for row in buses]))
    np.testing.assert_array_equal(names["pair"], [0, 0, 0, 2, 2, 2, 2, 2])
    import pyarrow.parquet as pq

    assert len(pq.read_table("runs/buses/labels/3f2a9c01b7de", partitioning=None)) == 4


def test_duckdb_examples_work(documented: list[Labels]) -> None:
    duckdb = pytest.importorskip("duckdb")
    summary, matches = (duckdb.sql(block).fetchall() for block in blocks("sql"))
    assert summary == [("bus", 3, 8, pytest.approx(8 / 3)), ("school bus", 1, 4, 4.0)]
    expected = [
        (row.pair_id, *row.source_xy[i], *row.target_xy[i], row.cosine[i], row.geodesic_error[i])
        for row in documented
        for i in range(len(row))
        if row.category == "bus"
    ]
    assert sorted(matches) == sorted(expected)
    types = {name: kind for name, kind, *_ in duckdb.sql("DESCRIBE SELECT * FROM 'runs/buses/labels/*/*/*.parquet'").fetchall()}
    assert types["source_xy"] == types["cosine"] == "FLOAT[]"
    assert types["pair_id"] == types["category"] == "VARCHAR"


def test_datasets_example_works(documented: list[Labels], monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", Path("cache"))
    names: dict[str, Any] = {}
    exec(blocks("python")[1], names)  # noqa: S102 - the page is ours
    np.testing.assert_array_equal(np.float32(names["source_xy"]), documented[0].source_xy)
    assert names["images"][0]["file"] == "a.jpg"


def test_page_names_commands_and_options_that_there_are() -> None:
    typer_testing = pytest.importorskip("typer.testing")
    from pipelines.cli import app

    for command in ("export", "import"):
        shown = typer_testing.CliRunner().invoke(app, [command, "labels", "--help"], env={"COLUMNS": "300"}).output
        used = {line for line in DOCS.read_text().splitlines() if line.startswith(f"sc3d {command} labels")}
        assert used
        for line in used:
            assert all(option in shown for option in re.findall(r"--[a-z-]+", line)), line


def test_the_size_of_an_image_on_the_web_is_asked_for_as_the_configuration_allows() -> None:
    picture = io.BytesIO()
    Image.new("RGB", (20, 30)).save(picture, "PNG")
    web = WebServer(picture.getvalue())
    manifest = pa.table({"image_id": ["a"], "path": [web.url("photo.png")], "category": ["bus"], "split": ["trn"]})
    sizes = pa.table({name: pa.array([], pa.int64()) for name in ("image_id", "width", "height")})
    allowed = DownloadConfig(attempts=1, hosts=("127.0.0.1",))
    assert LabelledImages(manifest, "", sizes, allowed).size(0) == (20, 30)
    with pytest.raises(InputError, match="may not be asked"):
        LabelledImages(manifest, "", sizes, DownloadConfig(attempts=1)).size(0)
    web.stop()
