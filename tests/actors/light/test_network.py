"""EfficientNet-Lite0 against a plain computation in numpy, block by block, and against what photos show."""

import numpy as np
import pytest
import torch
from skimage.data import chelsea, coffee

from actors.light.network import BLOCKS, Lite0, normalised
from actors.light.weights import weights_path
from actors.state_dicts import read_state

# Kernel, stride and output channels of each block: table 1 of the EfficientNet paper (B0).
TABLE = [
    (3, 1, 16),
    (3, 2, 24), (3, 1, 24),
    (5, 2, 40), (5, 1, 40),
    (3, 2, 80), (3, 1, 80), (3, 1, 80),
    (5, 1, 112), (5, 1, 112), (5, 1, 112),
    (5, 2, 192), (5, 1, 192), (5, 1, 192), (5, 1, 192),
    (3, 1, 320),
]  # fmt: skip
TABBY, TIGER_CAT, EGYPTIAN_CAT = 281, 282, 285
ESPRESSO, CUP = 967, 968


@pytest.fixture(scope="module")
def state():
    return {name: value.double().numpy() for name, value in read_state(weights_path()).items()}


@pytest.fixture(scope="module")
def network():
    return Lite0.from_package()


def norm(values, state, name):
    mean, variance, scale, shift = (state[f"{name}.{k}"][:, None, None] for k in ("running_mean", "running_var", "weight", "bias"))
    return (values - mean) / np.sqrt(variance + 0.001) * scale + shift


def relu6(values):
    return np.minimum(np.maximum(values, 0), 6)


def same(values, kernel, stride):
    """TensorFlow's "SAME", from its documentation."""
    pads = [(0, 0)]
    for size in values.shape[1:]:
        along = max(kernel - stride, 0) if size % stride == 0 else max(kernel - size % stride, 0)
        pads.append((along // 2, along - along // 2))
    padded = np.pad(values, pads)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))
    return windows[:, ::stride, ::stride]


def plain(pixels, state):
    """The output of every block, and the logits, of pixels (3, H, W) in double precision."""
    stem = np.einsum("chwij,ocij->ohw", same(pixels, 3, 2), state["_conv_stem.weight"])
    values, outputs = relu6(norm(stem, state, "_bn0")), []
    for index, (kernel, stride, channels) in enumerate(TABLE):
        name, before = f"_blocks.{index}", values
        if index > 0:
            expand = state[f"{name}._expand_conv.weight"][:, :, 0, 0]
            values = relu6(norm(np.tensordot(expand, values, 1), state, f"{name}._bn0"))
        depthwise = state[f"{name}._depthwise_conv.weight"][:, 0]
        values = np.einsum("chwij,cij->chw", same(values, kernel, stride), depthwise)
        values = relu6(norm(values, state, f"{name}._bn1"))
        project = state[f"{name}._project_conv.weight"][:, :, 0, 0]
        values = norm(np.tensordot(project, values, 1), state, f"{name}._bn2")
        if stride == 1 and before.shape == values.shape:
            values = values + before
        assert len(values) == channels
        outputs.append(values)
    head = relu6(norm(np.tensordot(state["_conv_head.weight"][:, :, 0, 0], values, 1), state, "_bn1"))
    return outputs, state["_fc.weight"] @ head.mean(axis=(1, 2)) + state["_fc.bias"]


# 96 is a multiple of every stride; the others leave each remainder somewhere on the way down.
@pytest.mark.parametrize(("height", "width"), [(96, 64), (97, 75), (50, 110), (33, 34)])
def test_every_block_and_the_logits_are_those_of_a_plain_computation(network, state, height, width):
    pixels = np.random.default_rng(height).uniform(-1, 1, (3, height, width))
    batch = torch.from_numpy(pixels).float()[None]
    outputs, logits = plain(pixels, state)
    found = network.blocks(batch, range(16))
    for index, expected in enumerate(outputs):
        assert found[index].shape == (1, *expected.shape)
        np.testing.assert_allclose(found[index][0].numpy(), expected, atol=2e-4 * np.abs(expected).max(), err_msg=f"block {index}")
    maps = network.class_maps(batch)[0]
    assert maps.shape == (1000, -(-height // 32), -(-width // 32))
    np.testing.assert_allclose(maps.mean(dim=(1, 2)).numpy(), logits, atol=2e-3)


def test_a_batch_is_its_images_one_by_one_and_stays_as_it_was(network):
    pixels = torch.rand(3, 3, 64, 96) * 2 - 1
    before = pixels.clone()
    together = network.blocks(pixels)
    assert list(together) == list(BLOCKS)
    assert torch.equal(pixels, before)
    for index in range(3):
        alone = network.blocks(pixels[index : index + 1])
        for block in BLOCKS:
            torch.testing.assert_close(together[block][index], alone[block][0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("photo", "classes"), [(chelsea, {TABBY, TIGER_CAT, EGYPTIAN_CAT}), (coffee, {ESPRESSO, CUP})])
def test_it_recognises_what_is_in_a_photo(network, photo, classes):
    frame = torch.from_numpy(np.ascontiguousarray(photo()[:288, :448]))[None]
    maps = network.class_maps(normalised(frame))[0]
    assert int(maps.mean(dim=(1, 2)).argmax()) in classes
