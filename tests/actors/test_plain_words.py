"""What made features and meshes is said in words that hold for the run at hand, and no model is named that was not there."""

from __future__ import annotations

import pytest

from actors.models import MODELS
from actors.plain_words import feature_names, kind_of_mesh, made_with
from sc3d.config import RunConfig
from sc3d.config_file import load_config


def said(*overrides: str) -> dict[str, str]:
    return dict(made_with(load_config(None, overrides), {}))


@pytest.mark.parametrize(
    ("overrides", "features"),
    [
        ([], "ImageNet features of EfficientNet-Lite0"),
        (["profile=offline"], "DAISY descriptors and HOG descriptors with colour and texture"),
        (["describe.sd=hog"], "ImageNet features of EfficientNet-Lite0 and HOG descriptors with colour and texture"),
        (["profile=foundation"], "DINOv2 ViT-B/14 and Stable Diffusion 1.5"),
        (["profile=foundation", "describe.sd=my.module:Mine"], "DINOv2 ViT-B/14 and my.module:Mine"),
        (
            ["profile=foundation", "models.variant=tiny"],
            "DINOv2 ViT-B/14 and Stable Diffusion 1.5, as a small random model: means nothing",
        ),
    ],
)
def test_features_are_called_by_what_made_them(overrides: list[str], features: str) -> None:
    assert said(*overrides)["features"] == features


@pytest.mark.parametrize("profile", ["light", "offline"])
def test_stand_ins_are_never_called_by_the_model_that_they_stand_in_for(profile: str) -> None:
    config = load_config(None, [f"profile={profile}"])
    words = " ".join([*feature_names(config).values(), *(how for _, how in made_with(config, {"x": 1}))])
    for name in ("DINO", "Stable Diffusion", "PartField", "SAM", "slot"):
        assert name not in words
    assert not any("slot" in card.role for card in MODELS)


def test_meshes_are_told_by_what_is_stored_of_them() -> None:
    config = RunConfig()
    assert kind_of_mesh(config, -1, "") == "inflated silhouette, far side unknown"
    assert kind_of_mesh(config, 0, "") == kind_of_mesh(config, 90, "") == "generator's own, disturbed"
    template = load_config(None, ["reconstruct.mesh=template"])
    assert kind_of_mesh(template, -1, "abc") == "template, posed in each photo"
    assert kind_of_mesh(template, -1, "") == "inflated silhouette, far side unknown", "no template fitted its category"
    assert kind_of_mesh(load_config(None, ["reconstruct.mesh=sam3d"]), -1, "") == "SAM 3D Objects"
    assert kind_of_mesh(load_config(None, ["reconstruct.mesh=a.b:C"]), -1, "") == "a.b:C"


def test_several_kinds_of_meshes_are_counted_and_none_are_left_out() -> None:
    assert dict(made_with(RunConfig(), {"one": 3}))["meshes"] == "one"
    assert dict(made_with(RunConfig(), {"one": 1234, "other": 2}))["meshes"] == "one (1,234); other (2)"
    assert "meshes" not in dict(made_with(RunConfig(), {}))
