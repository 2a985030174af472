"""What to draw: the configuration of the toys benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sc3d.datasets.toys.catalogue import CATEGORIES
from sc3d.errors import ConfigError
from sc3d.records import SPLITS

MIN_SIDE = 64


@dataclass(frozen=True)
class ToysConfig:
    """The toys benchmark: which toys, how many, and how they are seen. The same configuration gives the same bytes.

    Attributes:
        categories: names of the catalogue, without repetition.
        images: images a category in the splits ``trn``, ``val`` and ``test``. Every image shows an instance of its own.
        max_pairs: at most so many ordered pairs a category in each split; pairs need three keypoints that both images show.
        width, height: size of the images in pixels, at least 64 each.
        seed: seed of the instances of trn and val.
        held_out_seed: seed of the instances of test, another one than ``seed``.
        occlusion: share of the images with something in front of the toy, which hides 8 to 40 % of it.
        truncation: share of the images whose border cuts the toy.
        mixed: instances of mixed build and pose, with dense truth, of the categories that have them
            (:data:`~sc3d.datasets.toys.catalogue.MIXED`).
        workers: processes that draw; 0: as many as there are cores; 1: this process. The result does not depend on it.

    Raises:
        ConfigError: a value is unknown or out of range.
    """

    categories: tuple[str, ...] = CATEGORIES
    images: Mapping[str, int] = field(default_factory=lambda: {"trn": 24, "val": 6, "test": 12})
    max_pairs: Mapping[str, int] = field(default_factory=lambda: {"trn": 120, "val": 60, "test": 60})
    width: int = 400
    height: int = 300
    seed: int = 0
    held_out_seed: int = 1
    occlusion: float = 0.25
    truncation: float = 0.15
    mixed: bool = False
    workers: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "categories", tuple(self.categories))
        unknown = [c for c in self.categories if c not in CATEGORIES]
        if unknown or not self.categories or len(set(self.categories)) != len(self.categories):
            raise ConfigError(f"toys: categories must be different ones of {', '.join(CATEGORIES)}; got {list(self.categories)}")
        for name in ("images", "max_pairs"):
            counts = dict(getattr(self, name))
            if set(counts) != set(SPLITS) or any(not isinstance(n, int) or n < 0 for n in counts.values()):
                raise ConfigError(f"toys: {name} must give a count of 0 or more for each of {', '.join(SPLITS)}; got {counts}")
            object.__setattr__(self, name, {split: counts[split] for split in SPLITS})
        if not any(self.images.values()):
            raise ConfigError("toys: all splits have 0 images; ask for some")
        if min(self.width, self.height) < MIN_SIDE:
            raise ConfigError(f"toys: images must be at least {MIN_SIDE} pixels a side; got {self.width} x {self.height}")
        if min(self.seed, self.held_out_seed) < 0 or self.seed == self.held_out_seed:
            raise ConfigError(
                f"toys: seed and held_out_seed must be different and not negative; got {self.seed}, {self.held_out_seed}"
            )
        for name in ("occlusion", "truncation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"toys: {name} is a share between 0 and 1; got {getattr(self, name)}")
        if self.workers < 0:
            raise ConfigError(f"toys: workers must be 0 (all cores) or more; got {self.workers}")

    def identity(self) -> dict[str, object]:
        """All that the images depend on, as plain JSON values: everything but ``workers``."""
        return {
            "categories": list(self.categories),
            "images": dict(self.images),
            "max_pairs": dict(self.max_pairs),
            "width": self.width,
            "height": self.height,
            "seed": self.seed,
            "held_out_seed": self.held_out_seed,
            "occlusion": self.occlusion,
            "truncation": self.truncation,
            # Said only where it is so: toys that were generated without it are still the same.
            **({"mixed": True} if self.mixed else {}),
        }
