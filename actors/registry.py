"""Which actor fills a slot of the pipeline: an option's value -> the class, imported only when it is chosen."""

from __future__ import annotations

from functools import reduce
from importlib import import_module

from actors.base import Actor
from sc3d.config import RunConfig
from sc3d.errors import ConfigError

SLOTS: dict[str, dict[str, str]] = {
    "reconstruct.mask": {
        "file": "actors.offline.masks:FileMask",
        "grabcut": "actors.offline.masks:GrabcutMask",
        "sam3": "actors.foundation.sam3.actor:Sam3Mask",
        "file_or_sam3": "actors.foundation.sam3.actor:Sam3Mask",
    },
    "reconstruct.mesh": {
        "auto": "actors.offline.reconstruct:OfflineReconstruct",
        "disturbed_truth": "actors.offline.reconstruct:OfflineReconstruct",
        "inflate": "actors.offline.reconstruct:OfflineReconstruct",
        "sam3d": "actors.foundation.sam3d:Sam3dReconstruct",
    },
    "orient.estimator": {
        "consensus": "actors.offline.orient:ConsensusOrient",
        "none": "actors.offline.orient:KeepOrientation",
        "orient_anything_v1": "actors.foundation.orient_anything.actor:OrientAnythingV1Orient",
        "orient_anything_v2": "actors.foundation.orient_anything.actor:OrientAnythingV2Orient",
    },
    "describe.dino": {
        "daisy": "actors.offline.dense:DaisySource",
        "dinov2": "actors.foundation.dino:DinoV2Source",
        "dinov2_registers": "actors.foundation.dino:DinoV2RegistersSource",
        "dinov3": "actors.foundation.dino:DinoV3Source",
    },
    "describe.sd": {
        "hog": "actors.offline.dense:HogSource",
        "stable_diffusion": "actors.foundation.stable_diffusion:StableDiffusionSource",
        "dift": "actors.foundation.dift:DiftSource",
    },
    "describe.shape": {
        "spectral": "actors.offline.shape:SpectralShape",
        "partfield": "actors.foundation.partfield.actor:PartFieldShape",
    },
}
"""Slot, which is the option's name -> value of the option -> ``module:class``."""

_OURS = {"sc3d", "actors", "cluster"}

FIXED: dict[str, str] = {
    "load": "actors.offline.load:LoadImage",
    "align": "actors.align:AlignActor",
    "surface": "actors.surface:SurfaceActor",
    "embed": "actors.embed:EmbedActor",
    "match": "actors.match:MatchActor",
}
"""Slots that every profile fills with the same actor."""

REHEARSAL: dict[str, str] = {
    "load": "actors.rehearsal:RehearseLoad",
    "reconstruct.mask": "actors.rehearsal:RehearseMask",
    "reconstruct.mesh": "actors.rehearsal:RehearseMesh",
    "align": "actors.rehearsal:RehearseAlign",
    "orient.estimator": "actors.rehearsal:RehearseOrient",
    "describe.dino": "actors.rehearsal:RehearseDino",
    "describe.sd": "actors.rehearsal:RehearseSd",
    "describe.shape": "actors.rehearsal:RehearseShape",
    "surface": "actors.rehearsal:RehearseSurface",
    "match": "actors.rehearsal:RehearseMatch",
}
"""What fills the slots when ``models.variant`` is none."""


def actor_of(config: RunConfig, slot: str) -> type[Actor]:
    """The actor that the configuration chooses for a slot.

    Raises:
        ConfigError: a library that the actor's module needs is not installed.
    """
    if is_rehearsal(config) and slot in REHEARSAL:
        name = REHEARSAL[slot]
    elif slot == "match" and config.match.device == "cuda":
        name = "actors.match:MatchOnGpu"
    elif slot in FIXED:
        name = FIXED[slot]
    else:
        name = SLOTS[slot][str(reduce(getattr, slot.split("."), config))]
    module, _, class_name = name.partition(":")
    try:
        found: type[Actor] = getattr(import_module(module), class_name)
    except ImportError as error:
        if (error.name or "").partition(".")[0] in _OURS:
            raise
        raise ConfigError(
            f"{slot}: {class_name} cannot be loaded ({error}); install it with: pip install 'sc3d[foundation]'"
        ) from None
    return found


def is_rehearsal(config: RunConfig) -> bool:
    """Whether the run only rehearses, with actors that do nothing."""
    return config.models.variant == "none"
