"""How the cost of the match stage grows: 10 to 10,000 pairs of the same toys, through Ray and the run folder, as a user's run goes.

Run with ``python -m benchmarks.growth [chart.svg]``; it takes about ten minutes, so ``python -m benchmarks`` leaves it out.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import row
from cluster.session import RaySession
from pipelines.folder.manifest import read_images
from pipelines.jobs import label
from pipelines.jobs.demo import DEFAULTS
from pipelines.runner.progress import Progress
from pipelines.runner.run import run_graph
from pipelines.stages.describe import DescribeStage
from pipelines.stages.match import MatchStage
from pipelines.stages.pairs import IMAGE_READS
from sc3d.config import PairsConfig, RunConfig
from sc3d.config_file import load_config
from sc3d.datasets.toys import ToysConfig, generate_toys
from sc3d.matching.pairs import plan_pairs_table
from sc3d.shards import ITEMS
from sc3d.store import RunFolder

IMAGES = 34
"""Images a category: nine categories have 10,098 ordered pairs."""
COUNTS = (10, 100, 1000, 10_000)


def run(images: int = IMAGES, counts: tuple[int, ...] = COUNTS) -> Iterator[dict[str, Any]]:
    """Seconds, milliseconds a pair, and reads a pair for each number of pairs."""
    with tempfile.TemporaryDirectory() as folder:
        config = _described(Path(folder), images)
        pairs = plan_pairs_table(read_images(RunFolder(config.run)), PairsConfig(strategy="all"), config.seed)
        items = pairs.select(["category", "pair_id"]).rename_columns(ITEMS.names)
        order = np.random.default_rng(0).permutation(len(items))
        with RaySession(config.ray) as ray, Progress() as progress:
            # The first run starts processes, which says nothing about pairs: it is made twice and measured once.
            for position, wanted in enumerate((min(counts), *counts)):
                shutil.rmtree(Path(config.run) / MatchStage.folder, ignore_errors=True)
                chosen = items.take(np.sort(order[:wanted]))
                [summary], count = run_graph([MatchStage(config)], chosen, progress, ray), len(chosen)
                if position:
                    reads = summary.counters[IMAGE_READS] / count
                    yield row("growth", f"match stage, {count} pairs", summary.seconds, "s", "lower", n=1)
                    yield row("growth", f"a pair of {count}", 1e3 * summary.seconds / count, "ms", "lower", n=count)
                    yield row(
                        "growth",
                        f"reads a pair of {count}",
                        reads,
                        "reads",
                        "lower",
                        "once a pair for each image",
                        2 / reads,
                        count,
                    )


def _described(folder: Path, images: int) -> RunConfig:
    # Images that no annotated pair names are left out of a data set, so all pairs are annotated.
    pairs = {"trn": images * (images - 1), "val": 0, "test": 0}
    generate_toys(folder / "toys", ToysConfig(images={"trn": images, "val": 0, "test": 0}, max_pairs=pairs, workers=2))
    config = load_config(None, [f"run={folder / 'run'}", f"dataset.root={folder / 'toys'}"], DEFAULTS)
    label.run(config, until=DescribeStage.name)
    return config


def draw(figures: list[dict[str, Any]], path: str) -> None:
    """Seconds over the number of pairs, both logarithmic, beside a line of equal cost a pair."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    seconds = {int(f["figure"].split()[-2]): f["value"] for f in figures if f["figure"].startswith("match stage")}
    counts = np.array(list(seconds))
    figure, axes = pyplot.subplots(figsize=(6, 4), constrained_layout=True)
    axes.loglog(counts, list(seconds.values()), "o-", color="#0f766e", label="measured")
    axes.loglog(counts, counts / counts[-1] * seconds[counts[-1]], "--", color="#94a3b8", label="equal cost a pair")
    axes.set(xlabel="pairs, of about 300 images", ylabel="seconds of the match stage", xticks=counts)
    axes.set_xticklabels([f"{count:,}" for count in counts])
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    lines = []
    for line in run():
        print(json.dumps(line), flush=True)
        lines.append(line)
    for chart in sys.argv[1:2]:
        draw(lines, chart)
