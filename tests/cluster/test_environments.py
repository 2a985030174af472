"""The environments of a cluster fit each other and the code: versions that Ray compares, packages that the actor's process imports, files
that the images copy."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from actors.foundation.sam3d import Sam3dReconstruct

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "cluster" / "images"
SAM3D = yaml.safe_load((ROOT / "cluster" / "environments" / "sam3d.yml").read_text())
# Distributions that install the same modules: what the tests run with is on the right.
SAME = {"opencv-python": "opencv-python-headless", "open3d": "open3d-cpu"}

# Imports what a worker of the reconstruction stage imports, and reconstructs, with nothing else there than what was allowed.
WORKER = """
import sys
from importlib.metadata import packages_distributions
allowed, owners = set({allowed!r}), packages_distributions()
class Absent:
    def find_spec(self, name, path=None, target=None):
        owner = {{o.lower().replace("_", "-") for o in owners.get(name.partition(".")[0], [])}}
        if owner and not owner & allowed:
            raise ModuleNotFoundError(f"{{name}} of {{sorted(owner)}} is not in the environment", name=name)
sys.meta_path.insert(0, Absent())
import numpy as np
import pipelines.runner.worker
from actors.foundation.sam3d import Sam3dReconstruct
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config_file import load_config
config = load_config(overrides=["models.variant=tiny", "models.device=cpu", "reconstruct.mesh=sam3d", "reconstruct.max_vertices=300"])
assert Sam3dReconstruct in ReconstructStage(config).actors()
mask = np.zeros((90, 120), bool)
mask[20:70, 30:90] = True
row = {{"image_id": "a", "image": np.zeros((90, 120, 3), np.uint8), "mask": mask}}
assert len(Sam3dReconstruct(config).process(row)["vertices"]) <= 300
print("reconstructed")
"""


def pip_requirements() -> list[Requirement]:
    (section,) = (d["pip"] for d in SAM3D["dependencies"] if isinstance(d, dict))
    return [Requirement(line) for line in section if not line.startswith("--")]


def conda_pins() -> dict[str, str]:
    return dict(d.split("=", 1) for d in SAM3D["dependencies"] if isinstance(d, str) and "=" in d)


def constraints() -> dict[str, str]:
    """The pins that hold for the Python of the environment."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    python = {"python_version": conda_pins()["python"], "python_full_version": f"{conda_pins()['python']}.0"}
    requirements = map(Requirement, lines)
    return {r.name: str(r.specifier) for r in requirements if r.marker is None or r.marker.evaluate(python)}


def closure(names: set[str]) -> set[str]:
    """The distributions installed here that those of ``names`` need, with themselves."""
    found: set[str] = set()
    waiting = [SAME.get(name, name) for name in names]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found.add(name)
        try:
            needs = [Requirement(line) for line in distribution(name).requires or []]
        except PackageNotFoundError:
            continue
        waiting += [r.name for r in needs if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def test_ray_and_what_it_compares_are_the_cluster_s() -> None:
    pins = {r.name: str(r.specifier) for r in pip_requirements()}
    assert pins["ray"] == constraints()["ray"]
    assert pins["pyarrow"] == constraints()["pyarrow"]
    main = (IMAGES / "main.Dockerfile").read_text()
    (python,) = re.findall(r"^ARG BASE=python:(\d+\.\d+)-", main, re.MULTILINE)
    assert conda_pins()["python"] == python
    for name in ("main", "sam3d"):
        assert "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL=minor" in (IMAGES / f"{name}.Dockerfile").read_text()


def test_upstream_s_versions() -> None:
    """Of its environments/default.yml and requirements at the pinned commit."""
    pins = {r.name: str(r.specifier) for r in pip_requirements()}
    assert pins["torch"] == "==2.5.1+cu121"
    assert pins["opencv-python"] == "==4.9.0.80"
    assert conda_pins()["cuda-toolkit"] == "12.1.1"
    script = (ROOT / "cluster" / "environments" / "sam3d.sh").read_text()
    assert re.search(r"checkout --quiet cf06676[0-9a-f]{33}\n", script)


def test_the_environment_is_named_where_it_is_used() -> None:
    dockerfile = (IMAGES / "sam3d.Dockerfile").read_text()
    assert f"/opt/conda/envs/{SAM3D['name']}/bin" in dockerfile
    assert f"conda activate {SAM3D['name']}" in dockerfile
    assert "sam3d" in Sam3dReconstruct.resources.custom
    assert '"sam3d": 1' in dockerfile


def test_the_actor_s_process_imports_nothing_that_its_environment_lacks(tmp_path: Path) -> None:
    # open3d comes from the script, with what it needs on the Python of these tests; setuptools comes with Python's environments.
    allowed = closure({r.name for r in pip_requirements()} | {"open3d", "libusb-package", "setuptools"}) | {"sc3d"}
    assert "transformers" not in allowed
    assert "trimesh" not in allowed
    code = WORKER.format(allowed=sorted(allowed))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert done.stdout.strip() == "reconstructed", done.stderr[-2000:]


@pytest.mark.parametrize("name", ["main", "sam3d"])
def test_images_copy_what_is_there_and_all_of_the_code(name: str) -> None:
    text = re.sub(r"\\\n", " ", (IMAGES / f"{name}.Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    instructions = [line.split(None, 1) for line in lines]
    assert {i for i, _ in instructions} <= {"ARG", "FROM", "SHELL", "RUN", "ENV", "COPY", "USER", "WORKDIR", "CMD"}
    assert [i for i, _ in instructions][:2] == ["ARG", "FROM"]
    sources = [source for i, rest in instructions if i == "COPY" for source in rest.split()[:-1]]
    assert all((ROOT / source).exists() for source in sources), sources
    # The README and the licence are named in pyproject.toml: without them the package is not built.
    assert {"sc3d", "actors", "pipelines", "training", "cluster", "pyproject.toml", "README.md", "LICENSE"} <= set(sources)


def test_the_script_is_valid_shell() -> None:
    script = ROOT / "cluster" / "environments" / "sam3d.sh"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    assert text.index("[p3d]") < text.index("[inference]") < text.index("uninstall --yes open3d") < text.index("open3d-cpu==")
