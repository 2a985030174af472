"""A view shows what was declared and refuses everything else."""

from __future__ import annotations

import dataclasses
from functools import reduce

import pytest

from sc3d.config import RunConfig
from sc3d.config_view import PLACES, values_of, view_of
from sc3d.errors import UndeclaredOptionError

CONFIG = RunConfig()


def test_declared_options_are_shown() -> None:
    view = view_of(CONFIG, ["seed", "match.alpha", "label"])
    assert view.seed == CONFIG.seed
    assert view.match.alpha == CONFIG.match.alpha
    assert view.label is CONFIG.label


@pytest.mark.parametrize("option", ["seed", "match.beta", "label.tau_geo", "reconstruct.align.lr_log_scale", "models.sd_prompt"])
def test_others_are_refused(option: str) -> None:
    with pytest.raises(UndeclaredOptionError, match=option.split(".")[0]):
        reduce(getattr, option.split("."), view_of(CONFIG, ["match.alpha", "reconstruct.align.steps_iou"]))


def test_properties_see_what_is_behind_them_or_nothing() -> None:
    assert view_of(CONFIG, ["match.alpha", "match.beta"]).match.gamma == CONFIG.match.gamma
    with pytest.raises(UndeclaredOptionError, match=r"match\.beta"):
        _ = view_of(CONFIG, ["match.alpha"]).match.gamma
    assert view_of(CONFIG, ["pairs.strategy"]).pairs.needs_cues is False


def test_everybody_may_see_where_it_runs_and_no_recipe_holds_it() -> None:
    view = view_of(CONFIG, [])
    assert (view.run, view.ray, view.match.device) == (CONFIG.run, CONFIG.ray, CONFIG.match.device)
    assert "device" not in values_of(CONFIG, ["match"])["match"]
    assert values_of(CONFIG, ["match.alpha", "label"]) == {
        "match.alpha": CONFIG.match.alpha,
        "label": dataclasses.asdict(CONFIG.label),
    }
    for place in PLACES:
        assert place.partition(".")[0] in CONFIG.__dataclass_fields__


def test_what_there_is_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        _ = view_of(CONFIG, ["seed"]).no_such_option  # type: ignore[attr-defined]
