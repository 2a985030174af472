"""The facts of a label card: what a run knows of its labels, of the models that made them, and of what was rejected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version

import pyarrow.compute as pc
from typing_extensions import TypedDict

from actors.catalogue import MODELS, ModelCard
from actors.light.weights import PACKAGE, SHA256
from actors.registry import actor_of
from pipelines.folder.manifest import PAIRS
from pipelines.jobs.label_means import means_of
from pipelines.stages.label import LabelStage, origin_file
from pipelines.stages.registry import chain_to
from sc3d.config import RunConfig
from sc3d.datasets.label_export.card import LabelCard, ModelUse
from sc3d.datasets.label_export.folder import ExportState
from sc3d.datasets.label_export.labels import ExportedLabels
from sc3d.errors import ConfigError, SchemaError, WeightsError
from sc3d.matching.template_prior import NO_WITNESS, uses_prior
from sc3d.parsed import read_parsed
from sc3d.records import LABELLED_SPLIT, Pair


class OriginNote(TypedDict):
    """``labels/<recipe>.json`` of imported labels, as far as a card says it."""

    origin: str


def make_card(
    source: ExportedLabels, config: RunConfig, state: ExportState, layout: str, split_names: Mapping[str, str]
) -> LabelCard:
    """The card of an export that is through with all label files. ``layout``: what is in the folder, as Markdown."""
    own = source.artefacts.recipe == LabelStage(config).recipe
    seen = (category for category, there in zip(source.images.categories, state.seen.tolist(), strict=True) if there)
    thresholds = source.thresholds
    return LabelCard(
        title=f"Correspondence labels of {', '.join(sorted(state.counts))}",
        version=version("sc3d"),
        recipe=source.artefacts.recipe,
        counts=state.counts,
        images=Counter(seen),
        left_out=state.left_out,
        planned_pairs=_planned_pairs(source) if own else 0,
        rejects=_rejects(config) if own else (),
        models=models_used(config) if own else (),
        thresholds=(thresholds.tau_cc, thresholds.tau_geo) if thresholds else None,
        origin="" if own else _origin(source),
        caveat=NO_WITNESS if own and uses_prior(config) else "",
        means=means_of(config) if own else (),
        licence=source.options.licence,
        layout=layout,
        split_names=split_names,
    )


def models_used(config: RunConfig) -> list[ModelUse]:
    """The models that a configuration chooses, with what identifies their weights."""
    chosen = [card for card in MODELS if card.is_selected(config)]
    return [ModelUse(c.role, c.name, c.source, c.licence, c.commercial, _weights(c, config)) for c in chosen]


def _weights(card: ModelCard, config: RunConfig) -> str:
    if card.source == PACKAGE:
        return f"sha256:{SHA256}"
    if not card.weights:
        return ""
    try:
        identities = actor_of(config, card.option.partition("=")[0]).made_of(config)["weights"]
    except (ConfigError, WeightsError):  # the card is about labels that are there, whether the model still is or not
        return "not to be found any more"
    return str(identities.get(f"models.{card.weights}", ""))


def _rejects(config: RunConfig) -> list[tuple[str, str, int]]:
    found = []
    for stage in chain_to(config, LabelStage.name):
        kinds = Counter(reject.error_type for reject in stage(config).rejects())
        found += [(stage.name, kind, count) for kind, count in kinds.most_common()]
    return found


def _planned_pairs(source: ExportedLabels) -> int:
    run = source.artefacts.run
    if not run.exists(PAIRS):
        return 0
    return int(pc.sum(pc.equal(run.read_table(Pair, PAIRS, ["split"])["split"], LABELLED_SPLIT)).as_py() or 0)


def _origin(source: ExportedLabels) -> str:
    note = origin_file(source.artefacts)
    try:
        return read_parsed(source.artefacts.run, note, OriginNote)["origin"] if source.artefacts.run.exists(note) else _EARLIER
    except SchemaError:
        return _EARLIER


_EARLIER = "These labels were made with an earlier configuration of the run, of which only the recipe is known."
