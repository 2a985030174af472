"""``sc3d preflight`` on a cluster of several nodes: what it can know before anything expensive starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.local import LocalCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_preflight_looks_at_every_node_and_refuses_what_the_cluster_cannot_give(tmp_path: Path, toys: Path) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "preflight", "--images", str(toys), "--kind", "toys", "--run", str(tmp_path)]
    with LocalCluster(nodes=2, cpus=2) as cluster:

        def preflight(*options: str) -> subprocess.CompletedProcess[str]:
            environment = {**os.environ, **cluster.environment}
            return subprocess.run([*command, *options], env=environment, capture_output=True, text=True, timeout=200)

        passed = preflight()
        assert passed.returncode == 0, passed.stderr
        assert "nodes       2, all with" in passed.stdout
        assert "up to 4 CPU" in passed.stdout
        assert "Ray asks for its token" in passed.stdout
        refused = preflight("--set", "match.device=cuda")
        assert refused.returncode == 1
        assert "match needs 0.5 GPU (there can be 0)" in refused.stderr
        local = preflight("--set", "describe.dino=dinov2", "--set", "models.device=cpu")
        assert local.returncode == 1
        assert "DINOv2" in local.stderr
        assert "hf download" in local.stderr
