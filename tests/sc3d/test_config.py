"""A configuration is what was asked for, or an error that names the option."""

import dataclasses
from pathlib import Path

import pytest

from sc3d.config import RunConfig
from sc3d.config_file import load_config, parse_config, to_values
from sc3d.errors import ConfigError


def test_defaults_are_the_papers() -> None:
    config = RunConfig()
    assert (config.match.alpha, config.match.beta) == (1 / 2, 1 / 3)
    assert config.match.gamma == pytest.approx(1 / 6)
    assert (config.label.tau_cc, config.label.tau_geo) == (0.05, 0.05)
    assert config.reconstruct.align.steps_distance == 100


def test_overrides_beat_the_file_which_beats_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("match: {alpha: 0.4}\nray: {workers: 3}\n")
    config = load_config(file, ["ray.workers=5"], {"match": {"alpha": 0.1, "beta": 0.2}})
    assert (config.match.alpha, config.match.beta, config.ray.workers) == (0.4, 0.2, 5)


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("match.alfa=0.4", "match.alfa"),
        ("match.alpha=much", "match.alpha"),
        ("match.alpha=1.5", "match.alpha"),
        ("nonsense=1", "nonsense"),
        ("label.tau_geo=0.3", "wider than match.tau_geo"),
        ("match.beta=0.9", "at most 1"),
        ("profile=magic", "profile"),
        ("match.alpha", "must look like"),
    ],
)
def test_a_wrong_option_is_named(override: str, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        load_config(overrides=[override])


def test_a_configuration_is_frozen_and_survives_plain_values() -> None:
    config = load_config(overrides=["match.alpha=0.25"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 3  # type: ignore[misc]
    assert parse_config(to_values(config)) == config


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        load_config(file)
    file.write_text("match: [")
    with pytest.raises(ConfigError, match=r"run\.yaml is not valid YAML"):
        load_config(file)
    file.write_text("- 1")
    with pytest.raises(ConfigError, match="not a list"):
        load_config(file)


def test_a_profile_chooses_the_models_and_options_beat_it() -> None:
    light, offline, foundation = (load_config(overrides=[f"profile={name}"]) for name in ("light", "offline", "foundation"))
    assert light == load_config() == RunConfig()
    assert (light.describe.dino, light.describe.sd, light.reconstruct.mask) == ("lite0", "lite0", "file_or_activation")
    assert (offline.describe.dino, offline.describe.sd, offline.reconstruct.mask) == ("daisy", "hog", "file")
    assert (foundation.describe.dino, foundation.describe.shape, foundation.reconstruct.mesh) == ("dinov2", "partfield", "sam3d")
    assert load_config(overrides=["profile=foundation", "describe.dino=dinov3"]).describe.dino == "dinov3"
    # A profile that is chosen anew beats what a run was made with; one that was chosen before does not.
    stored = to_values(load_config(overrides=["profile=foundation", "describe.dino=dinov3", "seed=7"]))
    again = load_config(overrides=["describe.sd=hog"], defaults=stored)
    assert (again.describe.dino, again.describe.sd, again.seed) == ("dinov3", "hog", 7)
    back = load_config(overrides=["profile=offline"], defaults=stored)
    assert (back.describe, back.seed) == (offline.describe, 7)
