"""The configuration of a command: what it says itself, what it takes over from the run, and what it goes back to the defaults of."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.cli.options import configuration, stored_configuration, template_options
from pipelines.folder.configuration import RUN, record_configuration
from sc3d.config import RunConfig
from sc3d.config_file import load_config, located, to_values
from sc3d.errors import ConfigError, SchemaError
from sc3d.store import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> str:
    """A run that was labelled with thresholds and masks of its own."""
    folder = str(tmp_path / "run")
    options = [f"run={folder}", "label.tau_geo=0.03", "dataset.masks=masks", "train.steps=300", "pairs.targets=2"]
    record_configuration(RunFolder(folder), load_config(None, options))
    return folder


def test_later_commands_take_over_what_they_do_not_say_and_print_it(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = configuration(run, None, ["train.steps=5"], {}, say=True)
    assert (config.label.tau_geo, config.train.steps) == (0.03, 5)
    said = " ".join(capsys.readouterr().err.split())
    assert "label.tau_geo=0.03" in said
    assert "dataset.masks=" in said
    assert "train.steps" not in said.partition("(")[0], "that was said anew"
    assert "--reset" in said


def test_options_go_back_to_their_defaults_one_by_one_by_stage_or_all(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    default = RunConfig()
    one = configuration(run, None, None, {}, reset=["label.tau_geo"], say=True)
    assert (one.label.tau_geo, one.train.steps) == (default.label.tau_geo, 300)
    assert "tau_geo" not in capsys.readouterr().err
    stage = configuration(run, None, None, {}, reset=["train", "dataset.masks"])
    assert (stage.train, stage.dataset.masks, stage.pairs.targets) == (default.train, None, 2)
    everything = configuration(run, None, None, {}, reset=["all"], say=True)
    assert everything == load_config(None, [f"run={run}"])
    assert capsys.readouterr().err == ""
    for typo in ("label.tau_gee", "lable"):
        with pytest.raises(ConfigError, match=typo):
            configuration(run, None, None, {}, reset=[typo])


def test_what_one_name_stands_for_goes_back_with_it(tmp_path: Path) -> None:
    folder, default = str(tmp_path / "run"), RunConfig()
    stored = load_config(None, [f"run={folder}", "profile=foundation", "train.preset=diy-sc", "match.alpha=0.4"])
    record_configuration(RunFolder(folder), stored)
    found = configuration(folder, None, None, {}, reset=["profile", "train.preset"])
    assert (found.profile, found.describe, found.reconstruct, found.orient) == (
        "light",
        default.describe,
        default.reconstruct,
        default.orient,
    )
    assert (found.train, found.match.alpha) == (default.train, 0.4)
    chosen = configuration(folder, None, ["describe.dino=dinov3"], {}, reset=["profile"])
    assert (chosen.profile, chosen.describe.dino, chosen.describe.sd) == ("light", "dinov3", default.describe.sd)
    assert chosen.train == stored.train


def test_nothing_is_said_where_nothing_is_taken_over(tmp_path: Path, run: str, capsys: pytest.CaptureFixture[str]) -> None:
    configuration(str(tmp_path / "new"), None, ["label.tau_geo=0.02"], {}, say=True)
    configuration(run, None, None, {})
    assert capsys.readouterr().err == ""


def test_paths_are_full_and_the_home_folder_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    config = configuration("~/run", None, None, {"dataset.root": "photos", "dataset.masks": "~/masks"})
    assert (config.run, config.dataset.root, config.dataset.masks) == (
        str(tmp_path / "home/run"),
        str(tmp_path / "photos"),
        str(tmp_path / "home/masks"),
    )
    bucket = located(load_config(None, ["run=s3://bucket/run", "dataset.root=s3://bucket/photos.csv"]))
    assert (bucket.run, bucket.dataset.root) == ("s3://bucket/run", "s3://bucket/photos.csv")


def test_a_run_is_found_by_relative_path_and_options_of_earlier_versions_are_known(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(run).parent)
    assert stored_configuration("run").label.tau_geo == 0.03
    values = to_values(load_config(None, [f"run={run}"]))
    values["compare"] = {"recipe": "2d", "spheres": None}
    values["evaluate"]["recipes"] = ["diy-sc"]
    del values["evaluate"]["labellings"]
    RunFolder(run).write_json(RUN, {"config": values, "counts": {}})
    config = stored_configuration("run")
    assert (config.compare.labelling, config.evaluate.labellings) == ("2d", ("diy-sc",))


def test_a_stored_configuration_that_is_wrong_is_named_and_can_be_left_out(run: str) -> None:
    folder = RunFolder(run)
    note = folder.read_json(RUN)
    folder.write_json(RUN, {**note, "config": {**note["config"], "match": {"alpha": "much"}}})
    with pytest.raises(ConfigError, match=r"run\.json \(--reset OPTION leaves one out\): match\.alpha"):
        configuration(run, None, None, {})
    assert configuration(run, None, None, {}, reset=["match"]).match == RunConfig().match
    assert configuration(run, None, ["match.alpha=0.25"], {}).match.alpha == 0.25
    with pytest.raises(ConfigError, match=r"configuration: seed"):
        configuration(run, None, ["match.alpha=0.25", "seed=-1"], {}, reset=["match"])


@pytest.mark.parametrize("config", [None, [], "label", 3])
def test_a_note_without_a_configuration_is_damaged(run: str, config: object) -> None:
    RunFolder(run).write_json(RUN, {"config": config})
    with pytest.raises(SchemaError, match=r"run\.json: config"):
        configuration(run, None, None, {})


@pytest.mark.parametrize("name", ["naïve", "車 🚗", "a'b\"c: #d", "[x] {y} *z", "\x1b[31m", "tab\tand\nline"])
def test_a_path_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    folder = str(tmp_path / name)
    config = configuration(folder, None, None, {"dataset.root": folder})
    assert (config.run, config.dataset.root) == (folder, folder)
    record_configuration(RunFolder(folder), config)
    assert configuration(folder, None, None, {}) == config


def test_a_template_is_posed_with_its_front_until_another_kind_of_mesh_is_chosen(tmp_path: Path) -> None:
    """The stage orient is chosen with ``--template``, stays on later commands unless it is said otherwise, and goes back with it."""
    run = str(tmp_path / "run")
    options = template_options("toys")
    first = configuration(run, None, None, options)
    assert (first.reconstruct.mesh, first.orient.estimator) == ("template", "none")
    assert configuration(run, None, ["orient.estimator=consensus"], options).orient.estimator == "consensus"
    record_configuration(RunFolder(run), first)
    assert configuration(run, None, ["label.tau_geo=0.03"], template_options(None)).orient.estimator == "none"
    assert configuration(run, None, ["reconstruct.mesh=inflate"], {}).orient.estimator == RunConfig().orient.estimator
    assert configuration(run, None, None, {}, reset=["reconstruct.mesh"]).orient.estimator == RunConfig().orient.estimator


def test_a_template_is_a_place_and_the_built_in_ones_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = load_config(None, [("reconstruct.template", "car.glb")])
    assert located(options).reconstruct.template == str(tmp_path / "car.glb")
    assert located(load_config(None, ["reconstruct.template=toys"])).reconstruct.template == "toys"
