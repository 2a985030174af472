"""Which labels of a run folder count: for everybody who reads labels, with the stages that make them at hand or without."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from sc3d.artefacts import Artefacts, Catalogue
from sc3d.manifests import PAIRS, labelled_images, read_inputs, read_pair_table
from sc3d.pair_ids import join_pair_ids, split_pair_ids
from sc3d.records import Labels
from sc3d.shards import COUNTED
from sc3d.store import RunFolder

FOLDER = "labels"
"""Folder of the labels in a run folder; a folder of each recipe is in it."""


def label_artefacts(run: RunFolder, recipe: str) -> Artefacts:
    """Where the labels of a recipe are."""
    return Artefacts(run, "label", FOLDER, recipe, Labels, "pair_id", by_category=True)


def counted_labels(artefacts: Artefacts) -> Catalogue:
    """The labels of a recipe that count.

    Of labels that the run made, those of the pairs that the plan names, as they are made from the photos of today. Of imported ones,
    which no plan names, those between images that the manifest has for labelling, with the photos that they were imported for.
    """
    run = artefacts.run
    if run.exists(origin_file(artefacts)):
        labelled, ids = labelled_images(run), artefacts.all_ids()
        known = pc.and_(*(pc.is_in(end, value_set=labelled) for end in split_pair_ids(ids)))
        return artefacts.catalogue(made_from(run, ids.filter(known), "photo"))
    if not run.exists(PAIRS):
        return artefacts.catalogue(COUNTED.empty_table())
    planned = read_pair_table(run, labelled=True)["pair_id"].combine_chunks()
    return artefacts.catalogue(made_from(run, planned, "inputs"))


def origin_file(artefacts: Artefacts) -> str:
    """The note that says where imported labels come from."""
    return f"{artefacts.prefix}.json"


def made_from(run: RunFolder, pair_ids: pa.Array, column: str) -> pa.Table:
    """Pairs with what their labels have to be made from (:data:`~sc3d.shards.COUNTED`), by the manifest.

    Args:
        column: "inputs" for labels of the run; "photo" for imported ones, which are about nothing else.
    """
    images = read_inputs(run)
    known, values = images["id"].combine_chunks(), images[column].combine_chunks()
    ends = [pc.fill_null(values.take(pc.index_in(end, value_set=known)), "") for end in split_pair_ids(pair_ids)]
    return pa.Table.from_arrays([pair_ids, join_pair_ids(*ends)], schema=COUNTED)
