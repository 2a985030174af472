"""The examples of docs/extending.md are short, and do what the page says: as modules of somebody else, on generated photos."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from actors.registry import actor_of
from pipelines.cli.options import stored_configuration
from pipelines.stages.compare import CompareStage, labelled_by
from pipelines.stages.describe import DescribeStage
from pipelines.stages.label import LabelStage, label_catalogue
from sc3d.config import DatasetConfig, LabelConfig
from sc3d.config_file import load_config
from sc3d.datasets.registry import read_dataset
from sc3d.datasets.toys import ToysConfig, generate_toys
from sc3d.errors import InputError
from sc3d.evaluation.labellings import labelling_named
from sc3d.matching.explain import CYCLE, Explanation
from sc3d.matching.filters import survivors

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
EXAMPLES = {name: f"# {name}.py\n{code}" for name, code in re.findall(r"```python\n# (\w+)\.py\n(.*?)```", TEXT, re.DOTALL)}
COMMANDS = [line for line in TEXT.splitlines() if line.startswith(("sc3d ", "python "))]
MOST_LINES = 40

SMALL = ("pairs.targets=2", "train.steps=1", "train.pairs_per_step=1", "train.channels=8", "train.validate_every=0")


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the examples as modules, for this process and those that it starts."""
    folder = tmp_path / "modules"
    folder.mkdir()
    for name, code in EXAMPLES.items():
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    return folder


def command_of(words: str) -> list[str]:
    """The one command of the page that holds some words."""
    (found,) = [line for line in COMMANDS if words in line]
    return shlex.split(found)


def test_there_is_a_short_example_of_each() -> None:
    assert list(EXAMPLES) == ["numbered", "sure", "colours", "sharpness"]
    assert max(len(code.splitlines()) for code in EXAMPLES.values()) <= MOST_LINES


def test_links_of_the_page_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target


@pytest.mark.usefixtures("modules")
def test_the_data_set_reads_numbered_photos_alone(tmp_path: Path) -> None:
    for name in ("grey-heron-0001.jpg", "heron.jpg"):
        (tmp_path / name).touch()
    (image,) = read_dataset(DatasetConfig(kind="numbered:NUMBERED", root=str(tmp_path))).images
    assert (image.image_id, image.category) == ("grey-heron-0001", "grey-heron")
    with pytest.raises(InputError, match="holds no photos called"):
        read_dataset(DatasetConfig(kind="numbered:NUMBERED", root=str(tmp_path / "modules")))


@pytest.mark.usefixtures("modules")
def test_the_filter_asks_for_the_cycle_and_the_cosine() -> None:
    n = 3
    columns = dict.fromkeys(Explanation.__dataclass_fields__, np.zeros(n))
    columns |= {"cosine": np.array([0.9, 0.9, 0.6]), "rejected_by": np.array(["", CYCLE, ""])}
    assert survivors("sure:keep_sure", Explanation(**columns), LabelConfig()).tolist() == [True, False, False]
    assert labelling_named("sure:keep_sure").meaning.endswith("labels that pass the cycle and whose features are much alike")


@pytest.mark.usefixtures("modules")
def test_the_feature_model_describes_cells_by_their_colour() -> None:
    config = load_config(overrides=["describe.dino=colours:Colours"])
    image = np.zeros((200, 300, 3), np.uint8)
    image[:, 150:] = (10, 20, 30)
    found = actor_of(config, "describe.dino")(config).process({"image": image})["dino"]
    assert (found.shape, found.dtype) == ((3, 60, 60), np.float16)
    assert found[:, 30, 10].tolist() == [0, 0, 0]
    assert found[:, 30, 50].tolist() == [10, 20, 30]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_of_them_work_in_a_run(tmp_path: Path, modules: Path) -> None:
    run, photos = tmp_path / "runs" / "birds", tmp_path / "data" / "birds"
    generate_toys(tmp_path / "toys", ToysConfig(categories=("car",), images={"trn": 3, "val": 0, "test": 0}, workers=1))
    photos.mkdir(parents=True)
    for number, photo in enumerate(sorted((tmp_path / "toys" / "JPEGImages").rglob("*.jpg"))):
        shutil.copy(photo, photos / f"car-{number:04}.jpg")
    (photos / "car-0009.jpg").write_text("no photo")

    def call(command: list[str], *more: str) -> str:
        program = {"sc3d": [sys.executable, "-m", "pipelines.cli"], "python": [sys.executable]}[command[0]]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(modules), str(ROOT)))}
        done = subprocess.run(
            [*program, *command[1:], *more], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    model = command_of("colours:Colours")[-2:]
    call(command_of("numbered:NUMBERED"), *model, *(word for option in SMALL for word in ("--set", option)))
    config = stored_configuration(str(run))
    described, labels = DescribeStage(config), LabelStage(config)
    assert sorted(described.known.located) == ["car-0000", "car-0001", "car-0002"]
    planned = {pair for pair in labels.named()["id"].to_pylist() if "car-0009" not in pair}
    assert described.read_features("car-0000").sources["dino"].shape == (3, 60, 60)
    assert labels.known.located.keys() == planned

    call(["sc3d", *command_of("sc3d compare")[1:3], "--run", str(run)])
    compared = labelled_by(config, "sure:keep_sure")
    kept = label_catalogue(compared, CompareStage(compared).recipe).read_all()
    assert {row.pair_id for row in kept} == planned
    assert sum(len(row) for row in kept) > 0
    assert all((row.cosine > 0.7).all() for row in kept)

    rows = call(command_of("import sharpness")).splitlines()
    assert [row.split("'")[1] for row in rows] == ["car-0000", "car-0001", "car-0002"]
    assert call(command_of("import sharpness")).splitlines() == rows
    assert len(list((run / "sharpness").rglob("*.parquet"))) == 1
