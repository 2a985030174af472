"""Mistakes in a configuration are answered with what was probably meant, in a YAML file and in an override alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d.config import RunConfig
from sc3d.config_file import flat_values, load_config, without
from sc3d.config_problems import near_options
from sc3d.errors import ConfigError

OPTIONS = [name for name in flat_values(RunConfig()) if len(name.rpartition(".")[2]) > 4]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("match: {alpah: 1}", r"match\.alpah: there is no such option \(did you mean match\.alpha\?\)"),
        ("mtach: {alpha: 1}", r"mtach: there is no such option \(did you mean match\?\)"),
        ("Label: {tau_geo: 1}", r"Label: there is no such option \(did you mean label\?\)"),
        ("tau_geo: 0.1", r"tau_geo: .*did you mean match\.tau_geo or label\.tau_geo"),
        ("train: {alpha: 1}", r"train\.alpha: .*did you mean match\.alpha\?"),
        (
            "ray: {pools: {Sam3dReconstruct: {mx: 3}}}",
            r"pools\.Sam3dReconstruct\.mx: .*did you mean ray\.pools\.Sam3dReconstruct\.max\?",
        ),
        ("reconstruct: {align: {low_uio: 0.5}}", r"did you mean reconstruct\.align\.low_iou\?"),
        ("xyzzy: 1", r"xyzzy: there is no such option$"),
        ("profile: lite", r"profile: must be 'light', 'offline' or 'foundation' \(did you mean light\?\)"),
        ("pairs: {strategy: Nearest}", r"did you mean nearest\?"),
        ("dataset: {category: no}", r"dataset\.category: must be a text, and YAML reads no, off and false as .* false; .* 'no'"),
        ("dataset: {category: on}", r"YAML reads yes, on and true as the boolean true; put it in quotes"),
        ("dataset: {categories: [cat, off]}", r"dataset\.categories\.1: must be a text, and YAML reads no, off and false"),
        ("dataset: {category: 747}", r"YAML reads this one as the number 747; put it in quotes, as in '747'"),
        ("dataset: {root: 1.5}", r"the number 1\.5; put it in quotes"),
    ],
)
def test_a_mistake_is_answered_with_what_was_meant(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_config(file)


def test_an_override_is_answered_like_a_file_and_so_is_a_reset() -> None:
    with pytest.raises(ConfigError, match=r"did you mean match\.alpha\?"):
        load_config(None, ["match.alpah=1"])
    with pytest.raises(ConfigError, match="put it in quotes, as in 'no'"):
        load_config(None, ["dataset.category=no"])
    assert load_config(None, ["dataset.category='no'"]).dataset.category == "no"
    assert load_config(None, [("dataset.category", "no")]).dataset.category == "no"
    with pytest.raises(ConfigError, match=r"no option label\.tau_goe .*\(did you mean label\.tau_geo or label\.tau_cc\?\)"):
        without({}, ["label.tau_goe"])


@given(st.sampled_from(OPTIONS), st.data())
def test_a_letter_too_few_or_a_swapped_one_still_finds_the_option(option: str, data: st.DataObject) -> None:
    stage, _, name = option.rpartition(".")
    place = data.draw(st.integers(1, len(name) - 2))
    dropped = name[:place] + name[place + 1 :]
    swapped = name[:place] + name[place + 1] + name[place] + name[place + 2 :]
    for typed in (dropped, swapped):
        wrong = f"{stage}.{typed}" if stage else typed
        if wrong not in flat_values(RunConfig()):
            assert option in near_options(wrong)


def test_a_long_name_of_nothing_is_answered_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        load_config(None, ["match." + "a" * 5000 + "=1"])
    assert len(str(error.value)) < 1000
