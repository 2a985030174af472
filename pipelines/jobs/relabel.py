"""Stored evidence -> labels with other thresholds. No image is touched, no model is loaded and nothing is matched again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import pyarrow.compute as pc
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipelines.folder.configuration import RUN, stored_values
from pipelines.folder.manifest import read_pair_items
from pipelines.jobs.job import Job
from pipelines.runner.run import run_graph
from pipelines.runner.timings import record_summary
from pipelines.stages.label import LabelStage, label_catalogue
from pipelines.stages.match import MatchStage
from sc3d.config import LabelConfig, RunConfig
from sc3d.config_file import parse_config
from sc3d.console import PlainConsole
from sc3d.errors import InputError
from sc3d.store import RunFolder


@dataclass(frozen=True)
class LabelCount:
    """How many labels thresholds leave: of ``pairs`` labelled pairs, ``kept`` labels in all, in the folder ``prefix`` of the run."""

    thresholds: LabelConfig
    pairs: int
    kept: int
    prefix: str

    @property
    def kept_a_pair(self) -> float:
        """Mean labels of a pair; 0 without pairs."""
        return self.kept / self.pairs if self.pairs else 0.0


def run(config: RunConfig) -> RunFolder:
    """Apply ``config.label`` to the stored matches.

    The labels are those that ``sc3d label`` would write with these thresholds. The run folder goes over to them when they are complete;
    until then, and beside them from then on, the old ones stay as they are. :func:`count_labels` counts either.

    Raises:
        ConfigError: (when ``config`` is made) a threshold is wider than the stored evidence.
        InputError: nothing was matched with this configuration.
    """
    with Job(config, "relabel") as job:
        match, label = MatchStage(job.config), LabelStage(job.config)
        matched = match.catalogue().among(read_pair_items(job.folder))
        if not matched.num_rows:
            raise InputError(f"{job.folder.uri} holds no matches of this configuration and version of sc3d; run sc3d match first")
        # All of it is matched, so only labels are made, a shard for each shard of matches.
        *_, labelled = run_graph([match, label], matched, job.progress, job.ray, job.lease.check)
        record_summary(job.folder, labelled)
        job.begin()
    return job.folder


def stored_config(config: RunConfig) -> RunConfig:
    """The configuration that the run folder has now. Raises InputError if there is none."""
    values = stored_values(config.run)
    if not values:
        raise InputError(f"{config.run} holds no run, so there is nothing to label again; run sc3d label first")
    return parse_config({**values, "run": config.run}, f"{config.run}/{RUN}")


def count_labels(config: RunConfig) -> LabelCount:
    """The labels of a configuration, as far as they are there."""
    catalogue = label_catalogue(config)
    kept = pc.sum(catalogue.columns(["n_kept"])["n_kept"]).as_py() or 0
    return LabelCount(config.label, len(catalogue), kept, catalogue.artefacts.prefix)


def print_counts(config: RunConfig, before: LabelCount, after: LabelCount) -> None:
    """Print thresholds and labels a pair before and after, and where the labels are."""
    console = PlainConsole(soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("")
    for name in ("tau_geo", "tau_cc", "pairs", "labels", "labels per pair"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, count in (("before", before), ("after", after)):
        taus = count.thresholds
        known = (f"{count.pairs:,}", f"{count.kept:,}", f"{count.kept_a_pair:,.1f}") if count.pairs else ("0", "-", "-")
        table.add_row(name, f"{taus.tau_geo:g}", f"{taus.tau_cc:g}", *known)
    console.print(table)
    uri = config.run
    if before.prefix == after.prefix:
        console.print("These are the thresholds that the labels had.")
    else:
        if before.pairs:
            console.print(f"before: {uri}/{before.prefix}")
        anew = f"sc3d report --run {shlex.quote(config.run)}"
        console.print(f"The report is still about the labels before; {anew} writes it anew.")
    console.print(f"labels: {uri}/{after.prefix}")
