"""The metrics of a run reach Prometheus's endpoint as they are named, and the dashboard asks for nothing else."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
import time
import urllib.request
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from cluster import metrics
from cluster.metrics import BUSY_SECONDS, METRICS, RECORDS, RunMetrics

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((ROOT / "cluster" / "grafana" / "sc3d.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
OURS = {name for metric in METRICS for name in metric.exported}
# Ray's own that the dashboard asks for: looked up at a live Ray below, but for those that need a GPU.
RAYS = {
    "ray_actors",
    "ray_cluster_active_nodes",
    "ray_node_cpu_count",
    "ray_node_cpu_utilization",
    "ray_node_mem_total_host",
    "ray_node_mem_used_host",
    "ray_object_store_memory",
    "ray_resources",
    "ray_tasks",
}
RAYS_OF_GPUS = {"ray_node_gpus_utilization", "ray_node_gram_available", "ray_node_gram_used"}


def names_in(query: str) -> set[str]:
    return set(re.findall(r"\bray_\w+", query))


def test_no_metric_without_ray() -> None:
    """Not even an import of it."""
    code = """
import sys
from cluster.metrics import RunMetrics
metrics = RunMetrics("run")
metrics.shard_committed("match", "pair_id", 3, {"InputError": 1})
metrics.batch_mapped("match", "Matcher", 4, 0.1)
metrics.labels_kept(3)
metrics.items_left("match", 5)
assert "ray" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


def test_the_metrics_travel_to_a_worker() -> None:
    assert pickle.loads(pickle.dumps(RunMetrics("s3://bucket/run"))).run == "s3://bucket/run"  # noqa: S301


@pytest.mark.parametrize("name", ["/home/ana/été", "s3://bucket/バス 1", "broken\udce9", "plain run"])
def test_a_name_in_any_script_is_a_tag_that_ray_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray encodes the values of tags as ASCII, and raises in the worker where it cannot."""
    told: list[dict[str, str]] = []

    class Series:
        def __init__(self, *_: object) -> None:
            self.inc = self.observe = self.set = lambda value, tags: told.append(tags)

    monkeypatch.setattr(metrics, "_has_ray", lambda: True)
    for kind in ("_counter", "_gauge", "_histogram"):
        monkeypatch.setattr(metrics, kind, Series)
    one = RunMetrics(name)
    one.shard_committed("label", "pair_id", 3, {"Fehlér": 1})
    one.labels_kept(3)
    one.batch_mapped("match", "Mätcher", 1, 0.5)
    one.items_left("match", 1)
    assert len(told) == 8
    assert all(value.isascii() for tags in told for value in tags.values())
    assert len({tags["run"] for tags in told}) == 1
    assert (told[0]["run"] == name) == name.isascii()


def test_each_metric_has_a_name_of_its_own_and_few_series() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"sc3d_[a-z_]+", metric.name)
        # Ray adds it to counters.
        assert not metric.name.endswith("_total")
        # Each value of a tag is a series a process: stages, models and error types are few; images and categories are not.
        assert set(metric.tags) <= {"stage", "actor", "reason"}


@pytest.mark.parametrize("query", QUERIES)
def test_the_dashboard_asks_for_what_there_is(query: str) -> None:
    assert names_in(query)
    assert names_in(query) <= OURS | RAYS | RAYS_OF_GPUS


@pytest.mark.parametrize("query", QUERIES)
def test_the_dashboard_groups_by_tags_that_there_are(query: str) -> None:
    tags = {"run", "le"} | {tag for metric in METRICS if names_in(query) & set(metric.exported) for tag in metric.tags}
    for group in re.findall(r"\b(?:by|on) \(([\w, ]+)\)", query):
        if names_in(query) <= OURS:
            assert set(group.split(", ")) <= tags
        assert query.count("(") == query.count(")")
    # All that a run counted, and only that of the chosen runs.
    for name in names_in(query) & OURS:
        assert f'{name}{{run=~"$run"}}' in query


def test_everything_counted_is_on_the_dashboard() -> None:
    asked = set().union(*map(names_in, QUERIES))
    for metric in METRICS:
        assert asked & set(metric.exported), metric.name


def test_averages_do_not_come_from_the_histogram_s_sum() -> None:
    """Ray makes it up from the middles of the buckets."""
    assert not any("_sum{" in query for query in QUERIES)
    (mean,) = (query for query in QUERIES if BUSY_SECONDS.exported[0] in query and RECORDS.exported[0] in query)
    assert mean.index(BUSY_SECONDS.name) < mean.index("/") < mean.index(RECORDS.name)


def test_the_dashboard_can_be_imported() -> None:
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "run"}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in PANELS:
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        # Only the variables of the dashboard and Grafana's own.
        for target in panel["targets"]:
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= variables | {"__rate_interval", "__range"}
    for a, b in combinations([panel["gridPos"] for panel in DASHBOARD["panels"]], 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"] or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart


def scrape() -> dict[str, list[tuple[dict[str, str], float]]]:
    """Name -> the labels and value of each series, from the endpoint of this machine's Ray."""
    import ray

    with urllib.request.urlopen(f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics", timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for line in lines:
        if match := re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line):
            labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
            found.setdefault(match[1], []).append((labels, float(match[3])))
    return found


@pytest.mark.slow
def test_a_live_ray_exports_what_was_counted(ray_session: None) -> None:
    import ray

    @ray.remote(num_cpus=0.5)
    class Worker:
        def work(self, _: int) -> None:
            metrics = RunMetrics("live é")
            metrics.batch_mapped("match", "Matcher", 4, 0.4)
            metrics.shard_committed("match", "pair_id", 3, {"InputError": 1})
            metrics.shard_committed("describe", "image_id", 2, {})
            metrics.shard_committed("represent", "category", 1, {})
            metrics.labels_kept(7)

    workers = [Worker.remote() for _ in range(2)]  # type: ignore[attr-defined]
    ray.get([workers[i % 2].work.remote(i) for i in range(10)])
    RunMetrics("live é").items_left("match", 5)
    expected: dict[str, float] = {
        "ray_sc3d_records_total": 40,
        "ray_sc3d_busy_seconds_total": 4,
        "ray_sc3d_record_seconds_count": 40,
        "ray_sc3d_pairs_total": 30,
        "ray_sc3d_images_total": 20,
        "ray_sc3d_categories_total": 10,
        "ray_sc3d_rejects_total": 10,
        "ray_sc3d_shards_total": 30,
        "ray_sc3d_labels_total": 70,
        "ray_sc3d_items_left": 5,
    }
    deadline = time.monotonic() + 90
    while True:
        found = scrape()
        sums = {name: sum(value for tags, value in found.get(name, []) if tags["run"] == "live %C3%A9") for name in expected}
        missing = {name: value for name, value in expected.items() if sums[name] != pytest.approx(value)} or RAYS - set(found)
        if not missing or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert not missing, (missing, sums)
    assert set(found) & OURS == OURS - {"ray_sc3d_gpu_memory_bytes"}
    assert_labels(found)


def assert_labels(found: dict[str, list[tuple[dict[str, str], float]]]) -> None:
    """The labels of Ray's own metrics that the dashboard selects and groups by."""
    wanted: dict[str, dict[str, Any]] = {
        "ray_actors": {"State": "ALIVE", "Source": "gcs", "Name": re.compile("Worker$")},
        "ray_resources": {"Name": "object_store_memory"},
        "ray_object_store_memory": {"Location": re.compile(".")},
        "ray_tasks": {"State": re.compile(".")},
    }
    for name, labels in wanted.items():
        series = [tags for tags, _ in found[name]]
        assert any(
            all(re.fullmatch(v, tags.get(k, "")) if isinstance(v, str) else v.search(tags.get(k, "")) for k, v in labels.items())
            for tags in series
        ), (name, series[:5])


def test_ray_has_the_metrics_of_gpus() -> None:
    """By the list that its agent reports from, since there may be no GPU here."""
    from ray.dashboard.modules.reporter.reporter_agent import GPU_TAG_KEYS, METRICS_GAUGES

    assert {name.removeprefix("ray_") for name in RAYS_OF_GPUS} <= set(METRICS_GAUGES)
    assert "GpuIndex" in GPU_TAG_KEYS
