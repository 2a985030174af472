"""A network of the user's own for masks: a small real ONNX file through the real runtime, and every way in which one can be wrong."""

import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from actors.catalogue import MODELS, availability
from actors.light.foreground import ForegroundMask, ForegroundNetwork
from sc3d.config_file import load_config
from sc3d.errors import InputError, PreflightError, WeightsError


def network(path, slope=8.0, sigmoid=False, channels=3, side=64, output="map"):
    """Writes a network whose logit is ``slope`` times red minus blue of the scaled pixels."""
    weight = np.zeros((1, channels, 1, 1), np.float32)
    weight[0, 0], weight[0, -1] = slope, -slope
    nodes = [helper.make_node("Conv", ["image", "weight"], ["logits"])]
    last = "logits"
    if sigmoid:
        nodes.append(helper.make_node("Sigmoid", [last], ["chances"]))
        last = "chances"
    if output == "number":
        nodes.append(helper.make_node("ReduceMean", [last], ["mean"], keepdims=0))
        last = "mean"
    shape = [] if output == "number" else [1, 1, side, side]
    graph = helper.make_graph(
        nodes,
        "foreground",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, channels, side, side])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, shape)],
        [helper.make_tensor("weight", TensorProto.FLOAT, weight.shape, weight.ravel())],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def scene():
    image = np.zeros((90, 120, 3), np.uint8)
    image[..., 2] = 200
    image[30:60, 40:100] = (200, 0, 0)
    return image, image[..., 0] > 0


def actor(path, *overrides):
    return ForegroundMask(load_config(overrides=["reconstruct.mask=file_or_foreground", f"models.foreground={path}", *overrides]))


def row(image, box=None):
    return {"image": image, "path": "a.jpg", "bbox": box, "category": "car", "mask_path": None, "cut_out": None}


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("pixels", ["imagenet", "centred"])
def test_logits_and_probabilities_give_the_same_mask(tmp_path, sigmoid, pixels):
    image, mask = scene()
    found = actor(network(tmp_path / "n.onnx", sigmoid=sigmoid), f"models.foreground_pixels={pixels}").process(row(image))["mask"]
    assert found.shape == mask.shape
    assert (found & mask).sum() / (found | mask).sum() > 0.9


def test_pixels_are_scaled_as_told(tmp_path):
    image = np.full((64, 64, 3), 255, np.uint8)
    logit = {"imagenet": (1 - 0.485) / 0.229 - (1 - 0.406) / 0.225, "centred": 0.0}
    for pixels, expected in logit.items():
        found = ForegroundNetwork(network(tmp_path / "n.onnx", slope=1.0, sigmoid=True), pixels).probabilities(image)
        np.testing.assert_allclose(found, 1 / (1 + np.exp(-expected)), atol=1e-5)


def test_only_the_annotated_box_is_looked_at(tmp_path):
    image, mask = scene()
    box = np.array([60, 20, 118.5, 70], np.float32)
    found = actor(network(tmp_path / "n.onnx")).process(row(image, box))["mask"]
    assert not found[:, :60].any()
    assert (found[:, 60:] == mask[:, 60:]).mean() > 0.95
    with pytest.raises(InputError, match="does not overlap"):
        actor(tmp_path / "n.onnx").process(row(image, np.array([500, 10, 600, 20], np.float32)))


def test_nothing_and_everything_are_no_masks(tmp_path):
    masks = actor(network(tmp_path / "n.onnx"))
    with pytest.raises(InputError, match=r"a\.jpg: the network of models\.foreground found an object of 0\.0 %"):
        masks.process(row(np.full((50, 60, 3), (0, 0, 200), np.uint8)))
    with pytest.raises(InputError, match="found the whole photo"):
        masks.process(row(np.full((50, 60, 3), (200, 0, 0), np.uint8)))


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"channels": 4}, "must take one image"),
        ({"output": "number"}, "must answer with a map"),
        (None, "cannot be run by onnxruntime"),
    ],
)
def test_a_file_that_is_no_such_network_is_named(tmp_path, made, reason):
    path = tmp_path / "n.onnx"
    if made is None:
        path.write_bytes(b"no network")
    else:
        network(path, **made)
    with pytest.raises(WeightsError, match=rf"n\.onnx.*{reason}"):
        actor(path).process(row(scene()[0]))


def test_what_is_missing_says_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match="there is no such file"):
        actor(tmp_path / "gone.onnx")
    path = network(tmp_path / "n.onnx")
    (card,) = (card for card in MODELS if card.weights == "foreground")
    models = load_config(overrides=["reconstruct.mask=foreground", f"models.foreground={path}"]).models
    assert availability(card, models).problems == ()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(PreflightError, match=r"pip install 'sc3d\[foreground\]'"):
        actor(path)


def test_recipes_follow_the_content_of_the_file(tmp_path):
    def made_of(slope):
        config = load_config(overrides=["reconstruct.mask=foreground", f"models.foreground={network(tmp_path / 'n.onnx', slope)}"])
        return ForegroundMask.made_of(config)

    first = made_of(1.0)
    assert made_of(1.0) == first != made_of(2.0)
