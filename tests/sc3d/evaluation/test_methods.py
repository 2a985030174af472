"""Methods by name, what they ask a configuration for, and the protocols of the data sets."""

import pytest

from sc3d.config_file import load_config
from sc3d.errors import ConfigError
from sc3d.evaluation.labellings import LABELLINGS
from sc3d.evaluation.methods import METHODS, method_of, methods_of, missing_options, named, resolve, weights_of
from sc3d.evaluation.protocols import protocol_of, table_name
from sc3d.evaluation.published import published_pck_rows


def test_names_checkpoints_and_names_of_ones_own():
    assert method_of("sd-dino") is METHODS["sd-dino"]
    checkpoint = method_of("adapter:ckpts/a=b/best.pth")
    assert (checkpoint.adapter, checkpoint.name) == ("ckpts/a=b/best.pth", "adapter:ckpts/a=b/best.pth")
    own = method_of("DIY-SC=adapter:best.pth")
    assert (own.name, own.adapter, own.is_zero_shot) == ("DIY-SC", "best.pth", False)
    assert method_of("x=dinov2").weights == METHODS["dinov2"].weights
    with pytest.raises(ConfigError, match="no method named 'sd_dino'"):
        method_of("sd_dino")
    assert [m.name for m in methods_of(["dino", "dino", "sd"])] == ["dino", "sd"]


def test_an_adapter_can_be_trained_on_the_labels_of_any_filter():
    assert {f"labels-{name}" for name in LABELLINGS} <= set(METHODS)
    own = method_of("mine=labels-sc3d.matching.filters:keep_cycle")
    assert (own.name, own.labelling, own.is_zero_shot) == ("mine", "sc3d.matching.filters:keep_cycle", False)
    assert method_of("labels-cycle").labelling == "cycle"
    with pytest.raises(ConfigError, match=r"no labelling named 'cycles' \(did you mean cycle"):
        method_of("labels-cycles")


def test_what_a_method_asks_for_becomes_the_configuration_it_reads():
    config = load_config(None, ["profile=foundation", "describe.sd=dift"])
    resolved, stand_ins = resolve(METHODS["sd-dino"], config)
    assert (resolved.describe.sd, resolved.describe.dino, stand_ins) == ("stable_diffusion", "dinov2", {})
    assert missing_options(METHODS["sd-dino"], config) == "--set describe.sd=stable_diffusion"
    assert missing_options(METHODS["adapter-uncapped"], config) == "--set train.labels_per_pair=3600"
    again, _ = resolve(METHODS["sd-dino"], resolved)
    assert again == resolved


@pytest.mark.parametrize(("profile", "name"), [("light", "sd-dino (lite0)"), ("offline", "sd-dino (daisy, hog)")])
def test_stand_ins_stay_and_are_told(profile, name):
    config = load_config(None, [f"profile={profile}"])
    resolved, stand_ins = resolve(METHODS["sd-dino"], config)
    assert resolved == config
    assert named(METHODS["sd-dino"], stand_ins) == name
    assert missing_options(METHODS["sd-dino"], config) == ""


def test_weights_are_the_methods_or_the_configurations():
    config = load_config(None, ["match.alpha=0.25", "match.beta=0.25"])
    assert weights_of(METHODS["zero-shot-3d"], config) == {"sd": 0.25, "dino": 0.25, "shape": 0.5}
    assert weights_of(METHODS["zero-shot"], config) == {"sd": 0.25, "dino": 0.25}
    assert weights_of(METHODS["sd-dino"], config) == {"sd": 0.5, "dino": 0.5}
    assert weights_of(METHODS["adapter"], config) == {}


def test_published_names_are_rows_of_the_published_tables():
    printed = {row["method"] for row in published_pck_rows()}
    assert {method.published for method in METHODS.values() if method.published} <= printed


def test_every_method_has_either_weights_or_an_adapter():
    for name, method in METHODS.items():
        assert bool(method.weights) != bool(method.adapter), name
        assert method.name == name
        assert method.meaning


def test_protocols_are_those_of_the_papers():
    assert (protocol_of("spair").dataset, protocol_of("spair").unit, protocol_of("spair").alphas) == (
        "SPair-71k",
        "box",
        (0.1, 0.05, 0.01),
    )
    assert protocol_of("spair-u").dagger
    assert protocol_of("pf-pascal").unit == protocol_of("tss").unit == "image"
    assert protocol_of("pf-willow").unit == "keypoints"
    assert (protocol_of("toys").dataset, protocol_of("toys").unit) == ("toys", "box")
    assert table_name("ap10k", None) == "AP-10K intra-species"
    assert table_name("ap10k", "cross-family") in {row["dataset"] for row in published_pck_rows()}
    assert table_name("spair", "small") == "spair"


def test_look_alikes_of_the_data_sets():
    assert protocol_of("ap10k").groups_of("", "any species").mirrored
    assert protocol_of("tss").groups_of("", "car").repeated == ()
