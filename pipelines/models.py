"""``sc3d models``: the table of models."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from actors.catalogue import MODELS


def print_models(console: Console | None = None) -> None:
    """Print every model with its role, source, licence, and the option that selects it."""
    table = Table(title="Models", title_justify="left", header_style="bold")
    for name in ("profile", "role", "model", "source", "licence", "commercial use", "gated", "select with"):
        table.add_column(name, overflow="fold")
    for card in MODELS:
        option = card.option or "not in this version"
        gated = "yes" if card.gated else "no"
        table.add_row(card.profile, card.role, card.name, card.source, card.licence, card.commercial, gated, option)
    (console or Console()).print(table)
