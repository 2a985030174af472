"""EfficientNet-Lite0 (Tan and Le, ICML 2019; the "lite" form has neither squeeze-and-excitation nor swish) for dense features.

Sixteen inverted bottlenecks behind a strided convolution, then a linear classifier of ImageNet's 1,000 classes. Batch norm is folded
into the convolutions when the weights are read, since the network is never trained here. Blocks are counted from 0, as in the file.

The weights were trained with TensorFlow's "same" padding: where a strided convolution needs an odd number of zeros, the odd one goes
right and below. So what a cell describes is centred right and below of the cell's own centre: by 7.5 pixels in the blocks 5 to 10
(a cell: 16 pixels) and by 15.5 in the blocks 11 to 15 (32 pixels), at sides that are multiples of 32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from actors.light.weights import weights_path
from actors.state_dicts import read_state

BLOCKS = (7, 10, 14)
"""The blocks that describe: 80 and 112 channels at a sixteenth of the side, 192 at a thirty-second."""

# Of the depthwise convolutions; those of all other blocks have the stride 1.
_STRIDES = {1: 2, 3: 2, 5: 2, 11: 2}
_N_BLOCKS = 16
_EPSILON = 1e-3
_MEAN, _RANGE = 127.0, 128.0


@dataclass(frozen=True, eq=False)
class _Convolution:
    """A convolution with its batch norm: ``weight`` (out, in / groups, k, k), ``bias`` (out,)."""

    weight: torch.Tensor
    bias: torch.Tensor
    stride: int = 1
    groups: int = 1
    linear: bool = False

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        result = self._mixed(values) if self.weight.shape[-1] == 1 else self._convolved(values)
        return result if self.linear else result.clamp_(0, 6)

    def _mixed(self, values: torch.Tensor) -> torch.Tensor:
        """A kernel of one pixel: a product of the channels, where PyTorch on one thread would copy them to and fro."""
        return functional.linear(values.permute(0, 2, 3, 1), self.weight[:, :, 0, 0], self.bias).permute(0, 3, 1, 2)

    def _convolved(self, values: torch.Tensor) -> torch.Tensor:
        kernel = self.weight.shape[-1]
        across, down = (_same_padding(side, kernel, self.stride) for side in (values.shape[3], values.shape[2]))
        padding = (down[0], across[0])
        if across[0] != across[1] or down[0] != down[1]:
            values, padding = functional.pad(values, (*across, *down)), (0, 0)
        return functional.conv2d(values, self.weight, self.bias, self.stride, padding, groups=self.groups)


@dataclass(frozen=True, eq=False)
class _Block:
    """An inverted bottleneck. ``residual``: its input is added to its output."""

    convolutions: Sequence[_Convolution]
    residual: bool

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        result = values
        for convolution in self.convolutions:
            result = convolution(result)
        return result + values if self.residual else result


class Lite0:
    """The network with its weights, in evaluation, on the CPU.

    Args:
        state: tensors by name, as the file has them.
    """

    def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
        self._stem = _folded(state, "_conv_stem", "_bn0", stride=2)
        self._blocks = [_block(state, index) for index in range(_N_BLOCKS)]
        self._head = _folded(state, "_conv_head", "_bn1")
        self._classifier = _Convolution(state["_fc.weight"][:, :, None, None], state["_fc.bias"], linear=True)

    @classmethod
    def from_package(cls) -> Lite0:
        """The network with the weights of the installed package; raises :class:`~sc3d.errors.WeightsError` without them."""
        return cls(read_state(weights_path()))

    @torch.inference_mode()
    def blocks(self, pixels: torch.Tensor, wanted: Sequence[int] = BLOCKS) -> dict[int, torch.Tensor]:
        """Outputs of some blocks, which run as far as the last of them.

        Args:
            pixels: (N, 3, H, W) float32 of :func:`normalised`. Any size from 32; at multiples of 32 the cells divide the frame evenly.
            wanted: indices from 0 to 15.

        Returns:
            Block -> (N, C, h, w) float32, not rectified; h and w are H and W divided by the block's stride, rounded up.
        """
        outputs, values = {}, self._stem(pixels)
        for index, block in enumerate(self._blocks[: max(wanted) + 1]):
            values = block(values)
            if index in wanted:
                outputs[index] = values
        return outputs

    @torch.inference_mode()
    def class_maps(self, pixels: torch.Tensor) -> torch.Tensor:
        """How much each cell speaks for each class of ImageNet: class activation maps (Zhou et al., CVPR 2016).

        Args:
            pixels: (N, 3, H, W) as for :meth:`blocks`.

        Returns:
            (N, 1000, h, w) float32, h and w a thirty-second of H and W, rounded up. The mean over the cells are the logits.
        """
        last = _N_BLOCKS - 1
        return self._classifier(self._head(self.blocks(pixels, (last,))[last]))


def normalised(frames: torch.Tensor) -> torch.Tensor:
    """RGB pixels (N, H, W, 3) uint8 as the network was trained on: (N, 3, H, W) float32, about -1 to 1."""
    return (frames.permute(0, 3, 1, 2).float() - _MEAN) / _RANGE


def _same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after, as TensorFlow pads so that ceil(side / stride) outputs come out."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def _folded(
    state: Mapping[str, torch.Tensor], convolution: str, norm: str, stride: int = 1, depthwise: bool = False, linear: bool = False
) -> _Convolution:
    weight = state[f"{convolution}.weight"]
    scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + _EPSILON).sqrt()
    bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    return _Convolution(weight * scale[:, None, None, None], bias, stride, len(weight) if depthwise else 1, linear)


def _block(state: Mapping[str, torch.Tensor], index: int) -> _Block:
    at, stride = f"_blocks.{index}.", _STRIDES.get(index, 1)
    project = _folded(state, f"{at}_project_conv", f"{at}_bn2", linear=True)
    depthwise = _folded(state, f"{at}_depthwise_conv", f"{at}_bn1", stride, depthwise=True)
    if index == 0:  # the only one that does not expand; its input is wider than its output
        return _Block((depthwise, project), residual=False)
    expand = _folded(state, f"{at}_expand_conv", f"{at}_bn0")
    return _Block((expand, depthwise, project), residual=stride == 1 and expand.weight.shape[1] == project.weight.shape[0])
