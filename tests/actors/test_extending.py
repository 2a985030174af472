"""The examples of docs/extending.md do what the document says."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from dataset_copies import write_photo

from actors.registry import actor_of
from sc3d.config import DatasetConfig, LabelConfig
from sc3d.config_file import load_config
from sc3d.datasets.registry import read_dataset
from sc3d.evaluation.labellings import labelling_named
from sc3d.evaluation.protocols import protocol_of
from sc3d.matching.filters import survivors
from sc3d.matching.label import Explanation

TEXT = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
EXAMPLES = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", TEXT, re.DOTALL))


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples as modules on the path, under names that nothing else has."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, code in EXAMPLES.items():
        (tmp_path / f"example_{name}.py").write_text(code)
        monkeypatch.delitem(sys.modules, f"example_{name}", raising=False)
    importlib.invalidate_caches()


def test_there_is_an_example_of_each() -> None:
    assert list(EXAMPLES) == ["birds", "strict", "colours"]


def test_the_data_set(tmp_path: Path) -> None:
    write_photo(tmp_path / "photos" / "heron" / "a.jpg")
    kind = "example_birds:BIRDS"
    (image,) = read_dataset(DatasetConfig(kind=kind, root=str(tmp_path / "photos"))).images
    assert (image.image_id, image.category, protocol_of(kind).unit) == ("a", "heron", "image")


def test_the_filter() -> None:
    n = 3
    columns = dict.fromkeys(Explanation.__dataclass_fields__, np.zeros(n))
    columns |= {"cosine": np.array([0.9, 0.9, 0.6]), "geodesic_error": np.array([0, np.inf, 0]), "rejected_by": np.full(n, "")}
    assert survivors("example_strict:keep_sure", Explanation(**columns), LabelConfig()).tolist() == [True, False, False]
    assert labelling_named("example_strict:keep_sure").meaning.endswith("labels whose features are much alike")


def test_the_feature_model() -> None:
    config = load_config(overrides=["describe.dino=example_colours:Colours"])
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, 15:] = (10, 20, 30)
    found = actor_of(config, "describe.dino")(config).process({"image": image})["dino"]
    assert (found.shape, found.dtype) == ((3, 60, 60), np.float16)
    assert found[:, 30, 10].tolist() == [0, 0, 0]
    assert found[:, 30, 50].tolist() == [10, 20, 30]
