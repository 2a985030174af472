"""SAM 3 in the segmenter's slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from actors.base import Resources, Row
from actors.foundation.actor import FoundationActor
from actors.foundation.device import choose_device, choose_dtype
from actors.foundation.sam3.loading import FILES, load_model, load_tokenizer, random_model
from actors.foundation.sam3.model import LEAST_OVERLAP, LEAST_SCORE, Instances, Sam3
from actors.offline.masks import FileMask, given_mask
from actors.weights import fetch_weights
from sc3d.config import ModelsConfig
from sc3d.display import shown
from sc3d.errors import InputError

_WORDS = {"diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "tv monitor"}
"""Categories of PASCAL VOC, and so of SPair-71k, that are no English words."""


class Sam3Mask(FoundationActor):
    """Mask of the object that the category's name means: the one in the annotated box where there is one, else the surest one.

    With ``reconstruct.mask=sam3`` mask files of the dataset are left aside; else they come first, where there are any.
    """

    requires: ClassVar[Mapping[str, str]] = FileMask.requires
    provides: ClassVar[Mapping[str, str]] = FileMask.provides
    resources: ClassVar[Resources] = Resources(num_cpus=0.5, num_gpus=0.25)
    batch_size: ClassVar[int] = 4
    version: ClassVar[str] = "sam3-2"
    options: ClassVar[tuple[str, ...]] = ("reconstruct.mask", "dataset.kind")
    weights: ClassVar[Mapping[str, tuple[str, ...]]] = {"models.sam3": FILES}

    def load(self, models: ModelsConfig, device: torch.device) -> None:
        """Load the model."""
        self.model = load_sam3(models)
        # A random model's boxes are anywhere.
        self._least_overlap = 0.0 if models.variant == "tiny" else LEAST_OVERLAP

    def process(self, row: Row) -> Row:
        """Find the mask of one row; see :meth:`process_batch`."""
        return self.process_batch([row])[0]

    def process_batch(self, rows: Sequence[Row]) -> list[Row]:
        """Find the masks of several rows.

        Raises:
            InputError: a row's image does not show its category, or not where its box is; or its mask file cannot be used.
            FeatureError: the model's answer is not finite.
        """
        masks = [given_mask(row, self.config) for row in rows]
        others = [row for row, mask in zip(rows, masks, strict=True) if mask is None]
        found = iter(self._segment(others) if others else [])
        return [{"mask": next(found) if mask is None else mask} for mask in masks]

    def _segment(self, rows: Sequence[Row]) -> list[np.ndarray]:
        encoded = self.model.encode([row["image"] for row in rows])
        found = self.model.find(encoded, [prompt_of(row["category"]) for row in rows])
        return [self._chosen(instances, row) for instances, row in zip(found, rows, strict=True)]

    def _chosen(self, instances: Instances, row: Row) -> np.ndarray:
        asked = f"{shown(row['path'])}: SAM 3, asked for '{prompt_of(row['category'])}'"
        advice = "correct the category, give the photo a mask file (--masks DIR), or remove it"
        if not len(instances):
            raise InputError(
                f"{asked}, finds none (its surest guess has a score of {instances.best_score:.2f}, "
                f"{self.model.least_score:.2f} are needed); {advice}"
            )
        index = instances.choose(row["bbox"], self._least_overlap)
        if index is None and row["bbox"] is not None:
            box = np.round(row["bbox"]).astype(int).tolist()
            raise InputError(f"{asked}, finds {len(instances)}, but none of them where the annotated box {box} is; {advice}")
        mask = np.zeros((), bool) if index is None else instances.mask(index)
        if not mask.any():
            raise InputError(f"{asked}, finds an object without a pixel; {advice}")
        if mask.all():
            raise InputError(f"{asked}, takes the whole photo for it, which shows no shape; {advice}")
        return mask


def prompt_of(category: str) -> str:
    """The words for a category's name: ``tv_monitor`` -> ``tv monitor``."""
    words = category.replace("_", " ").replace("-", " ").strip()
    return _WORDS.get(words.lower(), words)


def load_sam3(models: ModelsConfig) -> Sam3:
    """SAM 3 as the configuration has it.

    Raises:
        WeightsError: the weights cannot be had, or are not SAM 3's; the message says what to do.
        PreflightError: transformers is not installed.
        ConfigError: a GPU is asked for and there is none.
    """
    device = choose_device(models)
    dtype = choose_dtype(models, device)
    if models.variant == "tiny":
        # Random scores are all about 0.25.
        return Sam3(*random_model(), device, dtype, least_score=0.0)
    folder = fetch_weights(models.sam3, FILES, models.cache)
    if not (folder / "tokenizer.json").is_file():
        folder = fetch_weights(models.sam3, (*FILES, "merges.txt"), models.cache)
    model: Any = load_model(folder)
    return Sam3(model, load_tokenizer(folder, model.config.text_config.vocab_size), device, dtype, LEAST_SCORE)
