"""A salient-object network of the user's own in the segmenter's slot: an ONNX file, run on the CPU.

Such networks (U2-Net, IS-Net, BiRefNet and their like) take one image (1, 3, S, S) and answer first with a map (1, 1, S, S), as
probabilities or as logits. Which of the two it is follows from the values. None comes with the project.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import cv2
import numpy as np

from actors.base import Row
from actors.offline.masks import FileMask
from actors.weights import fetch_weights
from sc3d.config import RunConfig
from sc3d.errors import InputError, PreflightError, WeightsError

_SIDE = 320
_PIXELS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "centred": ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0)),
}
_LEAST = 0.005


class ForegroundMask(FileMask):
    """What the network of ``models.foreground`` takes for the foreground; mask files first, unless ``reconstruct.mask=foreground``.
    The annotated box, where there is one, is all that is looked at."""

    version: ClassVar[str] = "foreground-2"
    options: ClassVar[tuple[str, ...]] = (*FileMask.options, "models.foreground_pixels")
    weights: ClassVar[Mapping[str, tuple[str, ...]]] = {"models.foreground": ("*.onnx",)}

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        models = self.config.models
        self._network = ForegroundNetwork(fetch_weights(models.foreground, ("*.onnx",), models.cache), models.foreground_pixels)

    def found(self, row: Row) -> np.ndarray:
        """See :class:`~actors.offline.masks.GrabcutMask`."""
        image, box = row["image"], row["bbox"]
        height, width = image.shape[:2]
        x1, y1, x2, y2 = (0, 0, width, height) if box is None else _inside(box, width, height)
        mask = np.zeros((height, width), bool)
        mask[y1:y2, x1:x2] = self._network.probabilities(image[y1:y2, x1:x2]) > 0.5
        share = float(mask.mean())
        if share < _LEAST or mask.all():
            found = "the whole photo" if mask.all() else f"an object of {100 * share:.1f} % of the image"
            raise InputError(f"the network of models.foreground found {found}; give the photo a mask file (--masks DIR)")
        return mask


class ForegroundNetwork:
    """A salient-object network.

    Args:
        path: its ONNX file, or a folder that holds just one.
        pixels: how its pixels are scaled: ``imagenet`` or ``centred``.

    Raises:
        PreflightError: onnxruntime is not installed.
        WeightsError: the file cannot be run, or is no such network.
    """

    def __init__(self, path: Path, pixels: str) -> None:
        self._path = next(iter(sorted(path.glob("*.onnx"))), path) if path.is_dir() else path
        runtime = _runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session = runtime.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # a damaged file can raise nearly anything
            raise WeightsError(f"{self._path} cannot be run by onnxruntime: {_first_line(error)}") from None
        (taken, *more) = self._session.get_inputs()
        shape = taken.shape
        if more or len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
            raise WeightsError(f"{self._path} is no salient-object network: it must take one image (1, 3, S, S), not {shape}")
        self._name = taken.name
        self._size = tuple(side if isinstance(side, int) else _SIDE for side in (shape[3], shape[2]))
        mean, deviation = _PIXELS[pixels]
        self._mean, self._deviation = np.array(mean, np.float32), np.array(deviation, np.float32)

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """How likely each pixel is foreground: (H, W, 3) uint8 RGB -> (H, W) float32.

        Raises:
            WeightsError: the network fails, or does not answer with a map.
        """
        small = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        pixels = ((small - self._mean) / self._deviation).transpose(2, 0, 1)[None]
        try:
            answer = self._session.run(None, {self._name: pixels})[0]
        except Exception as error:
            raise WeightsError(f"{self._path} fails on an image: {_first_line(error)}") from None
        values = np.asarray(answer, np.float32).squeeze()
        if values.ndim != 2 or not np.isfinite(values).all():
            raise WeightsError(f"{self._path} must answer with a map (1, 1, S, S) of finite values, not {np.shape(answer)}")
        if values.min() < 0 or values.max() > 1:
            values = 1 / (1 + np.exp(-values.clip(-50, 50)))
        return cv2.resize(values, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _runtime() -> ModuleType | Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise PreflightError(f"models.foreground runs through onnxruntime ({error}): pip install 'sc3d[foreground]'") from None
    return onnxruntime


def _inside(box: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    x1, y1 = (int(v) for v in np.floor(np.maximum(box[:2], 0)))
    x2, y2 = (int(v) for v in np.ceil(np.minimum(box[2:], (width, height))))
    if x2 <= x1 or y2 <= y1:
        raise InputError(f"the annotated box {np.round(box).astype(int).tolist()} does not overlap the image; correct it")
    return x1, y1, x2, y2


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
