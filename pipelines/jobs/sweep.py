"""Search alpha, beta, gamma, tau_cc and tau_geo on the annotated validation pairs -> ``sweeps/labels.json`` and ``best.yaml``.

Without such pairs: tau_geo alone, in :mod:`pipelines.jobs.cycle_search`.

The settings of a pair are evaluated together, from one similarity matrix a group; pairs go to workers in shards as in every stage, so a
killed sweep goes on where it stopped. The other level, which trains with each setting, is in :mod:`pipelines.jobs.adapter_search`.
"""

from __future__ import annotations

from typing import Any

import yaml
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipelines.jobs import adapter_search, cycle_search
from pipelines.jobs.job import Job
from pipelines.report.search import BEST_LABELS, FOUND_LABELS, usage, write_page
from pipelines.runner.timings import record_summary
from pipelines.stages.sweep import SweepStage, is_annotated, swept_pairs
from sc3d.config import RunConfig
from sc3d.console import PlainConsole
from sc3d.evaluation.setting_rank import collect_rows, rank, wanted_labels
from sc3d.report.search_verdict import interval_text, verdict
from sc3d.shards import item_table
from sc3d.store import RunFolder


def run(config: RunConfig, console: PlainConsole | None = None, retry_rejects: bool = False) -> RunFolder:
    """Evaluate the whole grid, print the best settings, and write the best one as YAML to pass to ``sc3d label --config``.

    ``sweeps/labels.json`` has one row a setting: alpha, beta, gamma, tau_cc, tau_geo, fpr, kept, judged, pck, present; best first. With
    ``sweep.level`` = adapter this is :func:`pipelines.jobs.adapter_search.run`. With ``sweep.objective`` = cycles, and with fpr if no
    validation pair is annotated, it is :func:`pipelines.jobs.cycle_search.run`.

    Raises:
        InputError: no annotated validation pair has features, or none of them could be evaluated.
    """
    if config.sweep.level == "adapter":
        return adapter_search.run(config, console)
    if config.sweep.objective == "cycles" or (config.sweep.objective == "fpr" and not is_annotated(config)):
        return cycle_search.run(config, console)
    with Job(config, "sweep", retry_rejects=retry_rejects) as job:
        config = job.config
        stage, pairs = SweepStage(config), swept_pairs(config)
        job.begin()
        items = item_table((pair.category, pair.pair_id) for pair in pairs)
        record_summary(job.folder, job.run_stage(stage, items))
        counts = list(stage.catalogue().read(pair.pair_id for pair in pairs).values())
        rows = rank(collect_rows(config, counts), config)
        found = {"objective": config.sweep.objective, "wanted": wanted_labels(rows, config), "pairs": len(counts)}
        job.folder.write_json(FOUND_LABELS, {"rows": rows, "steps": config.sweep.steps, **found})
        best = {"match": {k: rows[0][k] for k in ("alpha", "beta")}, "label": {k: rows[0][k] for k in ("tau_cc", "tau_geo")}}
        job.folder.write_bytes(BEST_LABELS, yaml.safe_dump(best).encode())
        page = write_page(job.folder)
    console = console or PlainConsole(soft_wrap=True)
    _print(rows, config, console)
    console.print(f"page: {page}")
    return job.folder


_HEADINGS = {"fpr": "wrong", "kept": "labels per pair", "pck": "PCK@0.10"}


def _print(rows: list[dict[str, Any]], config: RunConfig, console: PlainConsole) -> None:
    table = Table(title=f"best of {len(rows)} settings", title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    names = ["alpha", "beta", "gamma", "tau_cc", "tau_geo", "fpr", "95 %", "kept", "judged"]
    names += ["pck"] if config.sweep.objective == "pck" else []
    for name in names:
        table.add_column(_HEADINGS.get(name, name), justify="right")
    for row in rows[:10]:
        table.add_row(*(interval_text(row) if name == "95 %" else _cell(name, row[name]) for name in names))
    console.print(table)
    if said := verdict(rows, wanted_labels(rows, config)):
        console.print(said)
    console.print(f"use it: {usage(RunFolder(config.run), BEST_LABELS, ('label',))}")


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if name in ("fpr", "pck") else f"{value:.0f}" if name in ("kept", "judged") else f"{value:.3g}"
