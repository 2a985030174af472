"""What made features, meshes and masks, in plain words: for reports, terminals and label cards, which a reader may see without the rest."""

from __future__ import annotations

from collections.abc import Mapping

from actors.models import MODELS, ModelCard, chosen_value
from sc3d.config import RunConfig

INFLATED = "inflated silhouette, far side unknown"
DISTURBED = "generator's own, disturbed"
TEMPLATE = "template, posed in each photo"

_GROUPS = ("dino", "sd", "shape")


def feature_names(config: RunConfig) -> dict[str, str]:
    """Group of features (``dino``, ``sd``, ``shape``) -> what fills it, in a few words."""
    return {group: _name(config, f"describe.{group}") for group in _GROUPS}


def made_with(config: RunConfig, meshes: Mapping[str, int]) -> list[tuple[str, str]]:
    """What the features and meshes of a run were made with: (what, how) in plain words.

    Args:
        config: of the run.
        meshes: kind of mesh (:func:`kind_of_mesh`) -> how many images have it; empty where nothing was reconstructed yet.
    """
    features = dict.fromkeys(_words(config, slot) for slot in ("describe.dino", "describe.sd"))
    lines = [
        ("features", _tiny(config, " and ".join(features))),
        ("3D descriptors", _tiny(config, _words(config, "describe.shape"))),
    ]
    if meshes:
        kinds = (f"{kind} ({count:,})" if len(meshes) > 1 else kind for kind, count in meshes.items())
        lines.append(("meshes", "; ".join(kinds)))
    return lines


def kind_of_mesh(config: RunConfig, injected_turn: int, numbering: str) -> str:
    """What a reconstruction's mesh is: its columns tell a disturbed and a template's mesh, the configuration the others."""
    if numbering:
        return TEMPLATE
    if injected_turn >= 0:
        return DISTURBED
    card = _card(config, "reconstruct.mesh")
    if card is not None and card.profile == "foundation":
        return _tiny(config, card.name)
    return INFLATED if card is not None else _name(config, "reconstruct.mesh")


def _tiny(config: RunConfig, words: str) -> str:
    return f"{words}, as a small random model: means nothing" if config.models.variant == "tiny" else words


def _words(config: RunConfig, slot: str) -> str:
    card = _card(config, slot)
    return card.words or card.name if card else _name(config, slot)


def _name(config: RunConfig, slot: str) -> str:
    """The model's name; of one's own model the option's value."""
    card = _card(config, slot)
    return card.name if card else chosen_value(config, slot)


def _card(config: RunConfig, slot: str) -> ModelCard | None:
    return next((card for card in MODELS if card.slot == slot and card.is_selected(config)), None)
