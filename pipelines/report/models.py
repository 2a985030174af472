"""``sc3d models``: the table of models."""

from __future__ import annotations

from rich.table import Table

from actors.catalogue import MODELS, ModelCard, availability
from sc3d.config import ModelsConfig
from sc3d.console import PlainConsole


def print_models(models: ModelsConfig | None = None, console: PlainConsole | None = None) -> None:
    """Print every model: role, source, licence, the option that selects it, and what is here of it, or what to do to get it."""
    models = models or ModelsConfig()
    table = Table(title="Models", title_justify="left", header_style="bold")
    for name in ("profile", "role", "model", "source", "licence", "commercial use", "gated", "weights", "select with", "here"):
        table.add_column(name, overflow="fold")
    for card in MODELS:
        table.add_row(*_facts(card, models))
    (console or PlainConsole()).print(table)


def _facts(card: ModelCard, models: ModelsConfig) -> tuple[str, ...]:
    source = getattr(models, card.weights) if card.weights else card.source
    size = f"{card.gigabytes:g} GB" if card.gigabytes else "none"
    found = availability(card, models)
    here = found.problem or (str(found.weights) if found.weights else "yes")
    gated = "yes" if card.gated else "no"
    return card.profile, card.role, card.name, source, card.licence, card.commercial, gated, size, card.option, here
