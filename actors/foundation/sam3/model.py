"""SAM 3 for photos: a prompt in words, and the masks of all objects that it means.

The library's own image processor needs torchvision and the model does not, so what goes in and what comes out is processed here, as
the library does it. B: images, n: objects found in an image, Q: queries of the model (200), H, W: an image's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from sc3d.cache import ByteCache
from sc3d.errors import FeatureError, InputError

LEAST_SCORE = 0.3
"""Objects of a lower score are not taken for the prompt's, as upstream has it."""

LEAST_OVERLAP = 0.25
"""Of the boxes, intersection over union: below it an object is another one than the annotated box's."""

_INSIDE = 0.5
_PROMPT_TOKENS = 32
_PROMPT_BYTES = 32 << 20


@dataclass(frozen=True, eq=False)
class Instances:
    """The objects that one prompt means in one image, in the model's order, which is none.

    Attributes:
        scores: (n,) float32, in (0, 1).
        boxes: (n, 4) float32, x1, y1, x2, y2 in pixels of the image; they may reach beyond it.
        inside: (n, h, w) float32 tensor on the model's device: how likely a cell of the model's grid over the image is inside.
        size: (H, W) of the image.
        best_score: the best of all queries, also if it was too low to be among ``scores``.
    """

    scores: np.ndarray
    boxes: np.ndarray
    inside: torch.Tensor
    size: tuple[int, int]
    best_score: float

    def __len__(self) -> int:
        return len(self.scores)

    def mask(self, index: int) -> np.ndarray:
        """The mask (H, W) bool of one object. It may be empty."""
        enlarged = interpolate(self.inside[index][None, None], size=self.size, mode="bilinear", align_corners=False)
        return np.asarray((enlarged[0, 0] > _INSIDE).cpu().numpy())

    def choose(self, bbox: np.ndarray | None = None, least_overlap: float = LEAST_OVERLAP) -> int | None:
        """The object to keep: the one whose box overlaps ``bbox`` best, or without one that with the best score.

        Objects with an empty mask are passed over.

        Args:
            bbox: x1, y1, x2, y2 in pixels.
            least_overlap: objects whose box overlaps ``bbox`` less are passed over too.

        Returns:
            Its index; ``None`` if there is none to keep.
        """
        worth = self.scores if bbox is None else box_overlap(self.boxes, np.asarray(bbox, np.float32))
        filled = (self.inside > _INSIDE).flatten(1).any(1).cpu().numpy()
        usable = np.flatnonzero(filled & ((worth >= least_overlap) if bbox is not None else True))
        # Equal boxes are several guesses at one object.
        return int(max(usable, key=lambda i: (worth[i], self.scores[i]))) if len(usable) else None


def box_overlap(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Intersection over union (n,) of ``boxes`` (n, 4) with one ``box`` (4,), all x1, y1, x2, y2; 0 for boxes without area."""
    width, height = (np.minimum(boxes[:, i + 2], box[i + 2]) - np.maximum(boxes[:, i], box[i]) for i in (0, 1))
    common = np.maximum(width, 0) * np.maximum(height, 0)
    union = _area(boxes) + _area(box) - common
    return np.where(union > 0, common / np.where(union > 0, union, 1), 0.0)


def _area(boxes: np.ndarray) -> Any:
    return np.maximum(boxes[..., 2] - boxes[..., 0], 0) * np.maximum(boxes[..., 3] - boxes[..., 1], 0)


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """What the model has seen of B images of ``sizes`` (H, W), before any prompt."""

    vision: Any
    sizes: tuple[tuple[int, int], ...]


class Sam3:
    """Finds the objects that words mean.

    Args:
        model: a ``Sam3Model`` of transformers, in evaluation mode; see :mod:`actors.foundation.sam3.loading`.
        tokenizer: of CLIP, with the model's vocabulary.
        device: where it runs.
        dtype: of the model.
        least_score: objects of a lower score are left out.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        least_score: float = LEAST_SCORE,
    ) -> None:
        self.device, self.dtype = torch.device(device), dtype
        self.model = model.to(device=self.device, dtype=dtype)
        self.tokenizer, self.least_score = tokenizer, least_score
        self.side = int(model.config.vision_config.image_size)
        self._prompts = ByteCache(self._encode_prompt, lambda found: found[0].nbytes, _PROMPT_BYTES)

    def segment(self, image: np.ndarray, prompts: Sequence[str]) -> list[Instances]:
        """The objects in one image (H, W, 3) uint8 RGB that each prompt means. The image is encoded once.

        Raises:
            InputError: the image is no such array, or a prompt is empty.
            FeatureError: the model's answer is not finite.
        """
        encoded = self.encode([image])
        return [self.find(encoded, [prompt])[0] for prompt in prompts]

    @torch.inference_mode()
    def encode(self, images: Sequence[np.ndarray]) -> EncodedImages:
        """Look at images (H, W, 3) uint8 RGB of any sizes; what comes back answers any number of prompts.

        Raises:
            InputError: an image is no such array, or there is none.
        """
        if not images:
            raise InputError("there is no image to look at")
        pixels = torch.cat([preprocess(image, self.side) for image in images])
        return EncodedImages(self.look(pixels), tuple((i.shape[0], i.shape[1]) for i in images))

    @torch.inference_mode()
    def find(self, encoded: EncodedImages, prompts: Sequence[str]) -> list[Instances]:
        """What the i-th prompt means in the i-th of the encoded images.

        Raises:
            InputError: another number of prompts than of images, or an empty prompt.
            FeatureError: the model's answer is not finite.
        """
        if len(prompts) != len(encoded.sizes):
            raise InputError(f"{len(encoded.sizes)} images need as many prompts, got {len(prompts)}")
        return postprocess(self.answer(encoded.vision, prompts), encoded.sizes, self.least_score)

    @torch.inference_mode()
    def look(self, pixels: torch.Tensor) -> Any:
        """What the model's image encoder makes of B images (B, 3, S, S) in [-1, 1]."""
        return self.model.get_vision_features(pixel_values=pixels.to(self.device, self.dtype))

    @torch.inference_mode()
    def answer(self, vision: Any, prompts: Sequence[str]) -> Any:
        """The model's answer to as many prompts as it has seen images, as :func:`postprocess` takes it. Prompts are encoded once."""
        features, masks = zip(*(self._prompts.get(prompt) for prompt in prompts), strict=True)
        return self.model(vision_embeds=vision, text_embeds=_TextFeatures(torch.stack(features)), attention_mask=torch.stack(masks))

    @torch.inference_mode()
    def _encode_prompt(self, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (T, D) of the prompt's tokens, and which of the T tokens count."""
        if not prompt.strip():
            raise InputError("an empty prompt means nothing; give the category a name")
        tokens = self.tokenizer(prompt, padding="max_length", max_length=_PROMPT_TOKENS, truncation=True, return_tensors="pt").to(
            self.device
        )
        found = self.model.get_text_features(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return found.pooler_output[0], tokens["attention_mask"][0]


@dataclass
class _TextFeatures:
    """What the model reads of its own text encoder's output: (B, T, D). A bare tensor, which its documentation allows, it refuses."""

    pooler_output: torch.Tensor


def preprocess(image: np.ndarray, side: int) -> torch.Tensor:
    """An image (H, W, 3) uint8 RGB -> (1, 3, side, side) float32 in [-1, 1]. Its proportions are not kept.

    Raises:
        InputError: it is no such array.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise InputError(f"an image must be (H, W, 3) uint8, got {image.dtype} {image.shape}")
    # A copy: arrays from other processes are read-only, which torch warns of.
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
    # In 8 bits, whose rounding is part of what the model was trained with.
    resized = interpolate(pixels, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
    return (resized.float() - 127.5) / 127.5


def postprocess(answer: Any, sizes: Sequence[tuple[int, int]], least_score: float) -> list[Instances]:
    """The objects of B images from the model's answer, as ``post_process_instance_segmentation`` of transformers makes them.

    Args:
        answer: with ``pred_logits`` (B, Q), ``presence_logits`` (B, 1), ``pred_boxes`` (B, Q, 4) in [0, 1], ``pred_masks`` (B, Q, h, w).
        sizes: (H, W) of the images.
        least_score: objects have a higher score.

    Raises:
        FeatureError: scores, boxes or masks are not finite.
    """
    scores = answer.pred_logits.float().sigmoid() * answer.presence_logits.float().sigmoid()
    found = []
    for one, boxes, logits, size in zip(scores, answer.pred_boxes.float(), answer.pred_masks, sizes, strict=True):
        keep = one > least_score
        scaled = boxes[keep] * torch.tensor([size[1], size[0], size[1], size[0]], device=boxes.device)
        inside = logits[keep].float().sigmoid()
        if not all(torch.isfinite(values).all() for values in (one, scaled, inside)):
            raise FeatureError(
                f"SAM 3's answer is not finite in {answer.pred_masks.dtype}: set models.dtype=float32; if it still is not, "
                "the weights are damaged and must be fetched again"
            )
        found.append(Instances(one[keep].cpu().numpy(), scaled.cpu().numpy(), inside, size, float(one.max())))
    return found
