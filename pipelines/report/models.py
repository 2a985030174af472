"""``sc3d models``: what there is to know of each model, a block each, so that commands stay whole in any terminal and in a pipe."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from actors.catalogue import MODELS, ModelCard, availability
from sc3d.config import ModelsConfig
from sc3d.console import PlainConsole

_PROFILES = {
    "light": "weights from an installed package",
    "offline": "no weights",
    "foundation": "weights from a hub, a folder or s3://",
}


def model_facts(models: ModelsConfig | None = None) -> list[dict[str, Any]]:
    """Every model as plain values: profile, role, name, options that choose it, source, licence, commercial, gated, gigabytes, weights
    (where they are on this machine, or null) and to_do (what it lacks here, each with its command)."""
    models = models or ModelsConfig()
    return [_facts(card, models) for card in MODELS]


def _facts(card: ModelCard, models: ModelsConfig) -> dict[str, Any]:
    found = availability(card, models)
    return {
        "profile": card.profile,
        "role": card.role,
        "name": card.name,
        "options": [f"{card.slot}={value}" for value in card.values],
        "source": getattr(models, card.weights) if card.weights else card.source,
        "licence": card.licence,
        "commercial": card.commercial,
        "gated": card.gated,
        "gigabytes": card.gigabytes or None,
        "weights": str(found.weights) if found.weights else None,
        "to_do": list(found.problems),
    }


def print_models(models: ModelsConfig | None = None, console: PlainConsole | None = None) -> None:
    """Print every model: what it does, the options that choose it, source, licence, and where it is, or what to do to get it."""
    console = console or PlainConsole()
    facts = model_facts(models)
    for profile, meaning in _PROFILES.items():
        console.print(Text(profile, "bold").append(f": {meaning}", "not bold"), soft_wrap=True)
        for one in (one for one in facts if one["profile"] == profile):
            console.print()
            for line in _block(one):
                console.print(line, soft_wrap=True)
        console.print()


def _block(one: dict[str, Any]) -> list[Text]:
    state = Text("here", "green") if not one["to_do"] else Text("not here", "yellow")
    size = f", {_size(one['gigabytes'])}" if one["gigabytes"] else ""
    gated = ", to be accepted first" if one["gated"] else ""
    lines = [
        Text("  ").append(one["name"], "bold").append(f", {one['role']}: ").append(state),
        Text(f"    choose   --set {one['options'][0]}" + "".join(f", or {other}" for other in one["options"][1:])),
        Text(f"    source   {one['source'] or 'none given'}{size}"),
        Text(f"    licence  {one['licence']}{gated}; commercial use: {one['commercial']}"),
    ]
    lines += [Text(f"    weights  {one['weights']}")] if one["weights"] else []
    lines += [Text(f"    to do    {step}") for step in one["to_do"]]
    return lines


def _size(gigabytes: float) -> str:
    return f"{gigabytes:g} GB" if gigabytes >= 0.1 else f"{1000 * gigabytes:.0f} MB"
