"""What a run folder knows of its configuration, and whose it is."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipelines.folder.configuration import RUN, check_owner, record_configuration, stored_values
from pipelines.folder.images import IMAGES
from sc3d.config import DatasetConfig, LabelConfig, RunConfig
from sc3d.config_file import parse_config, to_values
from sc3d.errors import ConfigError, StoreError
from sc3d.records import ImageRecord, Pair
from sc3d.store import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def config_of(root: str, **changes: object) -> RunConfig:
    return RunConfig(dataset=DatasetConfig(root=root, **changes))  # type: ignore[arg-type]


def owned(run: RunFolder, ids: Sequence[str]) -> None:
    """A folder of a run on some images in ``/photos``."""
    record_configuration(run, config_of("/photos"))
    run.write_records(ImageRecord, IMAGES, [ImageRecord(id_, f"/photos/{id_}.jpg", "car") for id_ in ids])


def test_what_was_recorded_is_the_configuration_of_the_next_command(run: RunFolder) -> None:
    assert stored_values(run.uri) == {}
    config = dataclasses.replace(config_of("/photos"), label=LabelConfig(tau_geo=0.02), seed=7)
    record_configuration(run, config, {"images": 3})
    assert parse_config(stored_values(run.uri)) == config
    versions = run.read_json(RUN)["versions"]
    assert versions["python"] == platform.python_version()
    assert {"sc3d", "ray", "torch", "numpy", "pyarrow"} < versions.keys()


def test_counts_stay_until_there_are_others(run: RunFolder) -> None:
    record_configuration(run, config_of("/photos"))
    assert run.read_json(RUN)["counts"] == {}
    record_configuration(run, config_of("/photos"), {"images": 3, "pairs": 6})
    record_configuration(run, dataclasses.replace(config_of("/photos"), seed=1))
    assert run.read_json(RUN)["counts"] == {"images": 3, "pairs": 6}
    assert stored_values(run.uri)["seed"] == 1


def test_options_of_earlier_versions_have_their_present_names(run: RunFolder) -> None:
    values = to_values(config_of("/photos"))
    values["compare"]["recipe"] = values["compare"].pop("labelling")
    values["evaluate"]["recipes"] = ["2d"]
    del values["evaluate"]["labellings"]
    run.write_json(RUN, {"config": values, "counts": {}})
    with pytest.raises(ConfigError):
        parse_config(values)
    config = parse_config(stored_values(run.uri))
    assert config.evaluate.labellings == ("2d",)
    assert config.compare == RunConfig().compare


def test_a_new_folder_is_anybody_s(run: RunFolder) -> None:
    check_owner(run, config_of("/elsewhere"), ["a"])
    assert not run.exists(RUN)


def test_the_place_or_half_of_the_images_make_it_the_same_data_set(run: RunFolder) -> None:
    owned(run, ["a", "b", "c", "d"])
    check_owner(run, config_of("/photos"), ["x", "y"])
    check_owner(run, config_of("/moved"), ["a", "b", "x", "y", "z"])
    with pytest.raises(StoreError, match=r"run on folder '/photos', and few of its 4 images are in folder '/moved'.*--run"):
        check_owner(run, config_of("/moved"), ["a", "x", "y"])
    # The same place read as another kind of data set.
    with pytest.raises(StoreError, match="in spair '/photos'"):
        check_owner(run, config_of("/photos", kind="spair"), ["x"])
    check_owner(run, config_of("/photos", kind="spair"), ["a", "b", "c"])


def test_a_manifest_that_cannot_be_read_claims_nothing(run: RunFolder) -> None:
    owned(run, ["a", "b"])
    run.write_records(Pair, IMAGES, [])
    check_owner(run, config_of("/moved"), ["x"])
    run.write_bytes(IMAGES, b"PAR1 cut short")
    check_owner(run, config_of("/moved"), ["x"])
    run.delete(IMAGES)
    check_owner(run, config_of("/moved"), ["x"])
