"""Building upstream's pipeline: its environment, its settings, and what its files may not do. The packages are small stand-ins that stumble
over the same things."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import pytest
import torch
import yaml

from actors.foundation.sam3d import Sam3dReconstruct
from actors.foundation.sam3d_upstream import check_installed, load_pipeline
from sc3d.config_file import parse_config
from sc3d.errors import PreflightError, WeightsError

TARGET = "sam3d_objects.pipeline.inference_pipeline_pointmap.InferencePipelinePointMap"
PACKAGES = {
    # Upstream's __init__ imports a module that is not published unless it is told not to; the entry point needs CONDA_PREFIX.
    "sam3d_objects/__init__.py": """
import os
if not os.environ.get("LIDRA_SKIP_INIT"):
    import sam3d_objects.init
""",
    "sam3d_objects/pipeline/__init__.py": "",
    "sam3d_objects/pipeline/inference_pipeline_pointmap.py": """
import os
import torch
PREFIX = os.environ["CONDA_PREFIX"]
class InferencePipelinePointMap:
    def __init__(self, ss_generator_config_path, ss_generator_ckpt_path, depth_model, **options):
        if isinstance(options.get("fail"), str):
            raise {"memory": RuntimeError("CUDA out of memory."), "network": __import__("urllib.error").error.URLError("no route"),
                   "package": ModuleNotFoundError("No module named 'kaolin'")}[options["fail"]]
        path = os.path.join(options["workspace_dir"], ss_generator_ckpt_path)
        self.state = torch.load(path, map_location="cpu", weights_only=False)
        self.depth_model, self.options = depth_model, options
""",
    "sam3d_objects/pipeline/generator.py": "class Generator: pass",
    "moge/__init__.py": "",
    "moge/model.py": """
class MoGeModel:
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path):
        return pretrained_model_name_or_path
def MoGe(model):
    return model
""",
    "omegaconf/__init__.py": """
import yaml
class Node(dict):
    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__
def node(value):
    return Node({k: node(v) for k, v in value.items()}) if isinstance(value, dict) else value
class OmegaConf:
    load = staticmethod(lambda path: node(yaml.safe_load(open(path))))
""",
    "hydra/__init__.py": "",
    "hydra/utils.py": """
import importlib
class InstantiationException(Exception): pass
def get_method(path):
    names = path.split(".")
    for end in range(len(names) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(names[:end]))
        except ModuleNotFoundError:
            continue
        for name in names[end:]:
            found = getattr(found, name)
        return found
def instantiate(config):
    values = {k: instantiate(v) if isinstance(v, dict) and "_target_" in v else v for k, v in config.items() if k != "_target_"}
    try:
        return get_method(config["_target_"])(**values)
    except Exception as e:
        raise InstantiationException("Error in call to target") from e
""",
}


class Code:
    """Pickles to a call: what a hostile checkpoint holds."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (os.environ["SC3D_TEST_PROOF"],)


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in PACKAGES.items():
        file = tmp_path / "packages" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    for name in ("CONDA_PREFIX", "CUDA_HOME", "LIDRA_SKIP_INIT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    yield
    for name in [n for n in sys.modules if n.split(".")[0] in ("sam3d_objects", "moge", "omegaconf", "hydra")]:
        del sys.modules[name]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The repository on the hub: its files are in the folder ``checkpoints``."""
    folder = tmp_path / "weights" / "checkpoints"
    folder.mkdir(parents=True)
    write(folder, {})
    (folder / "ss_generator.yaml").write_text("module: {generator: {_target_: sam3d_objects.pipeline.generator.Generator}}")
    torch.save({"state_dict": {"w": torch.ones(3)}}, folder / "ss_generator.ckpt")
    (tmp_path / "depth").mkdir()
    (tmp_path / "depth" / "model.pt").touch()
    return folder.parent


def write(folder: Path, changes: dict[str, object]) -> None:
    depth = {"_target_": "moge.model.MoGeModel.from_pretrained", "pretrained_model_name_or_path": "Ruicheng/moge-vitl"}
    content = {
        "_target_": TARGET,
        "dtype": "float16",
        "rendering_engine": "nvdiffrast",
        "ss_generator_config_path": "ss_generator.yaml",
        "ss_generator_ckpt_path": "ss_generator.ckpt",
        "slat_decoder_gs_4_config_path": None,
        "depth_model": {"_target_": "moge.model.MoGe", "model": depth},
    }
    (folder / "pipeline.yaml").write_text(yaml.safe_dump({**content, **changes}))


@pytest.mark.usefixtures("upstream")
@pytest.mark.parametrize("inner", ["", "checkpoints"])
def test_the_pipeline_is_built_with_the_settings_of_upstream_s_entry_point(weights: Path, tmp_path: Path, inner: str) -> None:
    pipeline = load_pipeline(weights / inner, tmp_path / "depth")
    assert type(pipeline).__name__ == "InferencePipelinePointMap"
    assert pipeline.options["rendering_engine"] == "pytorch3d"
    assert pipeline.options["workspace_dir"] == str(weights / "checkpoints")
    assert (pipeline.options["compile_model"], pipeline.options["dtype"]) == (False, "float16")
    assert pipeline.depth_model == str(tmp_path / "depth" / "model.pt")
    assert pipeline.state["state_dict"]["w"].sum() == 3
    assert os.environ["CONDA_PREFIX"]
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    other = load_pipeline(weights / inner, tmp_path / "depth" / "model.pt", dtype="bfloat16", compile_model=True)
    assert (other.options["compile_model"], other.options["dtype"], other.depth_model) == (True, "bfloat16", pipeline.depth_model)


@pytest.mark.usefixtures("upstream")
def test_a_checkpoint_with_code_in_it_is_refused_and_the_code_is_not_run(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = tmp_path / "ran"
    monkeypatch.setenv("SC3D_TEST_PROOF", str(proof))
    torch.save({"state_dict": {}, "more": Code()}, weights / "checkpoints" / "ss_generator.ckpt")
    with pytest.raises(WeightsError, match=r"could run code.*convert it to .safetensors"):
        load_pipeline(weights, tmp_path / "depth")
    assert not proof.exists()
    # Without the check it is run: the test would notice.
    pickle.loads(pickle.dumps(Code()))  # noqa: S301
    assert proof.exists()


@pytest.mark.usefixtures("upstream")
@pytest.mark.parametrize(
    "target", ["os.system", "sam3d_objects.pipeline.inference_pipeline_pointmap.os.system", "sam3d_objects_too.x", "torch.load"]
)
@pytest.mark.parametrize("file", ["pipeline.yaml", "ss_generator.yaml"])
def test_a_description_that_calls_other_code_is_refused(weights: Path, tmp_path: Path, target: str, file: str) -> None:
    command = {"_target_": target, "command": f"touch {tmp_path / 'ran'}"}
    if file == "pipeline.yaml":
        write(weights / "checkpoints", {"ss_preprocessor": {"steps": [command]}})
    else:
        (weights / "checkpoints" / file).write_text(yaml.safe_dump({"module": [command]}))
    with pytest.raises(WeightsError, match=f"{file}: would call {target}"):
        load_pipeline(weights, tmp_path / "depth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("upstream")
@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"fail": "memory"}, PreflightError, "does not fit the GPU's memory.*32 GB"),
        ({"fail": "network"}, WeightsError, "DINOv2 from GitHub.*TORCH_HOME"),
        ({"fail": "package"}, PreflightError, "is incomplete.*kaolin.*sam3d.yml"),
        ({"ss_generator_ckpt_path": "gone.ckpt"}, WeightsError, "gone.ckpt.*at the pinned version"),
        ({"ss_generator_config_path": "gone.yaml"}, WeightsError, "gone.yaml: cannot be read"),
        ({"_target_": "sam3d_objects.pipeline.generator.Gone"}, WeightsError, "Gone.*pinned version"),
    ],
)
def test_what_upstream_raises_says_what_to_do(
    weights: Path, tmp_path: Path, changes: dict[str, object], kind: type[Exception], message: str
) -> None:
    write(weights / "checkpoints", changes)
    with pytest.raises(kind, match=message):
        load_pipeline(weights, tmp_path / "depth")


@pytest.mark.usefixtures("upstream")
def test_files_that_are_damaged_or_not_there(weights: Path, tmp_path: Path) -> None:
    (weights / "checkpoints" / "ss_generator.ckpt").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(WeightsError, match="cannot be built"):
        load_pipeline(weights, tmp_path / "depth")
    for content in ("a: [", "- a list", ""):
        (weights / "checkpoints" / "pipeline.yaml").write_text(content)
        with pytest.raises(WeightsError, match="fetch it again"):
            load_pipeline(weights, tmp_path / "depth")
    with pytest.raises(WeightsError, match=r"there is no pipeline.yaml"):
        load_pipeline(tmp_path, tmp_path / "depth")


def test_without_a_gpu_or_upstream_s_packages_the_actor_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing may be fetched before that is known: there is no such source.
    config = parse_config({"models": {"sam3d": "no/such-model"}})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(PreflightError, match=r"needs an NVIDIA GPU.*models\.variant=tiny"):
        Sam3dReconstruct(config)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("CONDA_PREFIX", "CUDA_HOME", "LIDRA_SKIP_INIT"):
        monkeypatch.setenv(name, os.environ.get(name, "x"))
    with pytest.raises(PreflightError, match=r"cannot be imported.*cluster/environments/sam3d.yml.*resource 'sam3d'"):
        Sam3dReconstruct(config)


@pytest.mark.usefixtures("upstream")
def test_with_them_it_goes_on() -> None:
    check_installed()
