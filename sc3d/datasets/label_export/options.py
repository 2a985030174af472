"""What is exported of a run's labels, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sc3d.errors import ConfigError

FormatName = Literal["huggingface", "diy-sc", "coco", "colmap", "hloc"]
_FORMATS = get_args(FormatName)


@dataclass(frozen=True)
class ExportOptions:
    """What is exported, and how.

    Attributes:
        format: huggingface, diy-sc, coco, colmap or hloc.
        labels: recipe of the labels in the run folder, such as an import prints; none: the run's own.
        tau_cc, tau_geo: thresholds that are narrower than those of the labels; none: as they are.
        min_labels: pairs with fewer labels are left out.
        val_fraction: share of the labelled pairs that is put into the validation split; a pair goes there together with its reverse.
        names: what images are called in files that name them: as their files, or as their ids with the file's ending.
        licence: of the labels, for the card; none: left to be filled in.
        overwrite: replace another export in the folder.
        with_images: huggingface: copies of the photos as well.
    """

    format: FormatName = "huggingface"
    labels: str | None = None
    tau_cc: float | None = None
    tau_geo: float | None = None
    min_labels: int = 1
    val_fraction: float = 0.0
    names: Literal["file", "id"] = "file"
    licence: str | None = None
    overwrite: bool = False
    with_images: bool = False

    def __post_init__(self) -> None:
        if self.format not in _FORMATS:
            raise ConfigError(f"format must be {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}, got '{self.format}'")
        if self.names not in ("file", "id"):
            raise ConfigError(f"names must be file or id, got '{self.names}'")
        for name in ("tau_cc", "tau_geo"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} must be greater than 0, got {value}")
        if self.min_labels < 0:
            raise ConfigError(f"min_labels must be 0 or more, got {self.min_labels}")
        if not 0 <= self.val_fraction < 1:
            raise ConfigError(f"val_fraction must be at least 0 and less than 1, got {self.val_fraction}")
        if self.format == "diy-sc" and self.min_labels < 1:
            raise ConfigError("min_labels must be at least 1 for diy-sc: a pair without keypoints stops its training")
        if self.with_images and self.format != "huggingface":
            raise ConfigError(f"photos are copied into exports for huggingface alone, not {self.format}")
