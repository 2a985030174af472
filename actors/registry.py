"""Which actor fills a slot of the pipeline: an option's value -> the class, imported only when it is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import isabstract

from actors.base import Actor
from actors.models import MODELS, WITHOUT_MODEL, chosen_value
from sc3d import plugins
from sc3d.config import RunConfig
from sc3d.errors import ConfigError


def _slots() -> dict[str, dict[str, str]]:
    slots: dict[str, dict[str, str]] = {}
    for card in MODELS:
        slots.setdefault(card.slot, {}).update(dict.fromkeys(card.values, card.actor))
    for slot, values in WITHOUT_MODEL.items():
        slots[slot].update(values)
    return slots


SLOTS = _slots()
"""Slot, which is the option's name -> value of the option -> ``module:class``."""

JOINT: dict[str, tuple[str, ...]] = {
    "actors.light.dense:Lite0Source": ("actors.light.dense:Lite0Dino", "actors.light.dense:Lite0Sd"),
}
"""An actor that does what several of one model would do, in one pass -> those that it replaces where all of them are chosen."""

FIXED: dict[str, str] = {
    "load": "actors.offline.load:LoadImage",
    "mask signs": "actors.mask_signs:MaskSigns",
    "mask signs beside files": "actors.mask_signs:MaskSignsBesideFiles",
    "align": "actors.align:AlignActor",
    "align of a template": "actors.align:JudgeTemplate",
    "render": "actors.light.renders:Lite0Renders",
    "render of normals": "actors.offline.renders:NormalRenders",
    "surface": "actors.surface:SurfaceActor",
    "register": "actors.register:RegisterActor",
    "embed": "actors.embed:EmbedActor",
    "match": "actors.match:MatchActor",
    "match on a GPU": "actors.match:MatchOnGpu",
}
"""Slots that every profile fills with the same actor."""

REHEARSAL: dict[str, str] = {
    "load": "actors.rehearsal:RehearseLoad",
    "reconstruct.mask": "actors.rehearsal:RehearseMask",
    "mask signs": "actors.rehearsal:RehearseMaskSigns",
    "reconstruct.mesh": "actors.rehearsal:RehearseMesh",
    "align": "actors.rehearsal:RehearseAlign",
    "render": "actors.rehearsal:RehearseRenders",
    "orient.estimator": "actors.rehearsal:RehearseOrient",
    "describe.dino": "actors.rehearsal:RehearseDino",
    "describe.sd": "actors.rehearsal:RehearseSd",
    "describe.shape": "actors.rehearsal:RehearseShape",
    "surface": "actors.rehearsal:RehearseSurface",
    "represent.depth": "actors.rehearsal:RehearseDepth",
    "match": "actors.rehearsal:RehearseMatch",
}
"""What fills the slots when ``models.variant`` is none."""


_ADVICE = "install it with: pip install 'sc3d[foundation]'"


def actor_of(config: RunConfig, slot: str) -> type[Actor]:
    """The actor that the configuration chooses for a slot: of the project, ``module:Class``, or an entry point of ``sc3d.sources``.

    Raises:
        ConfigError: there is none of this name, a library that its module needs is not installed, or it does not fit the slot.
    """
    if is_rehearsal(config) and slot in REHEARSAL:
        return _ours(REHEARSAL, slot)
    if slot == "match" and config.match.device == "cuda":
        slot = "match on a GPU"
    if slot == "align" and config.reconstruct.mesh == "template":
        slot = "align of a template"
    if slot == "mask signs" and config.reconstruct.takes_mask_files:
        slot = "mask signs beside files"
    if slot == "render" and config.orient.estimator == "joint_normals":
        slot = "render of normals"
    if slot in FIXED:
        return _ours(FIXED, slot)
    value = chosen_value(config, slot)
    found: type[Actor] = plugins.find(plugins.SOURCES, value, SLOTS[slot], f"value of {slot}", _ADVICE)
    if value not in SLOTS[slot]:
        _check(found, slot, value)
    return found


def actors_of(config: RunConfig, slots: Sequence[str | type[Actor]]) -> list[type[Actor]]:
    """The actors of some slots in their order, each once: of one that fills several (:data:`JOINT`), where the first of these is.

    Raises:
        ConfigError: as :func:`actor_of`.
    """
    found = [actor_of(config, slot) if isinstance(slot, str) else slot for slot in slots]
    for whole, parts in JOINT.items():
        names = [f"{actor.__module__}:{actor.__name__}" for actor in found]
        if set(parts) <= set(names):
            joint = _ours({whole: whole}, whole)
            found = list(dict.fromkeys(joint if name in parts else actor for name, actor in zip(names, found, strict=True)))
    return found


def _ours(known: dict[str, str], slot: str) -> type[Actor]:
    found: type[Actor] = plugins.find(plugins.SOURCES, slot, known, "actor of the slot")
    return found


def _check(found: object, slot: str, value: str) -> None:
    """Raise :class:`ConfigError` unless what somebody else wrote is an actor that can take the slot."""
    if not (isinstance(found, type) and issubclass(found, Actor)) or isabstract(found):
        raise ConfigError(f"{slot} = {value} must be a subclass of actors.base.Actor with its method process, not {found!r}")
    if not all(hasattr(found, name) for name in ("requires", "provides", "version")):
        raise ConfigError(
            f"{slot} = {value}: {found.__name__} must say what it requires, what it provides and its version, see actors.base.Actor"
        )
    # A rehearsal provides no more than it must.
    missing = set(_ours(REHEARSAL, slot).provides) - set(found.provides)
    if missing:
        provided = ", ".join(found.provides) or "nothing"
        raise ConfigError(
            f"{slot} = {value}: {found.__name__} must also provide {', '.join(sorted(missing))}; it provides {provided}"
        )


def is_rehearsal(config: RunConfig) -> bool:
    """Whether the run only rehearses, with actors that do nothing."""
    return config.models.variant == "none"
