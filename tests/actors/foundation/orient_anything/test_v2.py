"""OrientAnything V2 in its own process: upstream's repository by path, and a process that fails in every way that processes do."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.base import run_actors
from actors.foundation.orient_anything import messages
from actors.foundation.orient_anything.actor import V2_FILE, OrientAnythingV2Orient, repository_of
from actors.foundation.orient_anything.process import ModelProcess, ModelProcessError
from actors.foundation.orient_anything.worker import TinyNetwork, answering
from actors.foundation.pretrained import random_network
from sc3d.config_file import parse_config
from sc3d.errors import ConfigError, WeightsError
from sc3d.geometry.yaw import YAWS, render_yaw_views

SCENE = Path(__file__).with_name("scene.py")
WORKER = "actors.foundation.orient_anything.worker"

# As upstream's, but for what happens inside of the aggregator: it reads the azimuth off the picture, turned by a number of the checkpoint.
VISION_TOWER = """
import torch
from torch import nn
from utils import SIDE
from vggt.models.vggt import VGGT

print("what upstream prints goes to the output")


class Sampler(nn.Module):
    def __init__(self, width, outputs):
        super().__init__()
        self.net1 = nn.Sequential(nn.Linear(width, outputs), nn.BatchNorm1d(outputs), nn.ReLU())
        self.net2 = nn.Sequential(nn.Linear(outputs, outputs), nn.BatchNorm1d(outputs))


class VGGT_OriAny_Ref(nn.Module):
    def __init__(self, dtype, out_dim, nopretrain):
        super().__init__()
        assert (out_dim, nopretrain) == (900, True)
        self.vggt, self.dtype = VGGT(), dtype
        self.ref_sampler, self.tgt_sampler = Sampler(4, out_dim), Sampler(4, out_dim)

    def forward(self, img_inputs):
        print("one more line")
        assert not self.training
        assert img_inputs.shape[1:] == (1, 3, SIDE, SIDE)
        assert 0 <= img_inputs.min() and img_inputs.max() <= 1 and img_inputs.max() > 0.5
        assert [name for name, _ in self.vggt.named_children()] == []
        with torch.amp.autocast(device_type="cuda", dtype=self.dtype):
            azimuth = self.vggt.aggregator(img_inputs)
        bins = torch.arange(360)
        peak = 6 * (torch.cos(torch.deg2rad(bins[None] - azimuth[:, None])) - 1)
        return torch.cat([peak, torch.zeros(len(peak), 540)], 1)
"""
VGGT_MODULE = """
import torch
from torch import nn
from scene import read_azimuth


class VGGT(nn.Module):
    def __init__(self):
        super().__init__()
        self.turned = nn.Parameter(torch.full((1,), 77.0))
        for head in ("camera_head", "point_head", "depth_head", "track_head"):
            setattr(self, head, nn.Linear(2, 2))

    def aggregator(self, pictures):
        return torch.tensor([read_azimuth(p[0, 0].numpy() < 0.9) for p in pictures]) + self.turned
"""


def scene() -> Any:
    spec = importlib.util.spec_from_file_location("orient_scene", SCENE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


masts = scene().masts


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Upstream's repository, and beside it a folder with its checkpoint."""
    folder = tmp_path_factory.mktemp("upstream")
    repository = folder / "repository"
    for name, text in (
        ("vision_tower.py", VISION_TOWER),
        ("utils/__init__.py", "SIDE = 518\n"),
        ("vggt/__init__.py", ""),
        ("vggt/models/__init__.py", ""),
        ("vggt/models/vggt.py", VGGT_MODULE),
    ):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(text)
    shutil.copy(SCENE, repository / "scene.py")
    state = {"vggt.turned": torch.zeros(1)}
    state |= {f"vggt.{h}_head.{p}": torch.zeros((2, 2) if p == "weight" else 2) for h in HEADS for p in ("weight", "bias")}
    for sampler in ("ref_sampler", "tgt_sampler"):
        for net, width in (("net1", 4), ("net2", 900)):
            state |= {f"{sampler}.{net}.0.weight": torch.zeros(900, width), f"{sampler}.{net}.0.bias": torch.zeros(900)}
            state |= {f"{sampler}.{net}.1.{name}": torch.ones(900) for name in ("weight", "bias", "running_mean", "running_var")}
            state[f"{sampler}.{net}.1.num_batches_tracked"] = torch.zeros((), dtype=torch.long)
    (folder / "weights" / V2_FILE).parent.mkdir(parents=True)
    torch.save(state, folder / "weights" / V2_FILE)
    return folder


HEADS = ("camera", "point", "depth", "track")


def start(repository: Path, weights: Path) -> ModelProcess:
    return ModelProcess("V2", WORKER, ["--repository", str(repository), "--weights", str(weights)], 100, 100)


class TestUpstream:
    def test_a_turned_mesh_is_turned_back_by_the_actor(self, upstream: Path) -> None:
        models = {
            "orient_anything_v2": str(upstream / "weights"),
            "orient_anything_v2_repository": str(upstream / "repository"),
            "device": "cpu",
            "cache": str(upstream / "cache"),
        }
        config = parse_config({"models": models})
        actor = OrientAnythingV2Orient(config)
        rows = [{"id": str(turn), "vertices": masts(turn).vertices, "faces": masts(turn).faces} for turn in (0, 90, 180, 270)]
        outcomes = run_actors([actor], rows, "id", "orient")
        assert [o.row["turn"] for o in outcomes] == [0, 270, 180, 90]
        for outcome in outcomes:
            assert (outcome.row["votes"] == outcome.row["turn"]).all()
            assert not outcome.row["symmetric"]
        found = actor.estimator.estimate(render_yaw_views(masts(), YAWS, 400))
        assert np.abs((found.yaw_degrees - np.array(YAWS) + 180) % 360 - 180).max() < 15
        assert not {"utils", "vggt", "vision_tower"} & set(sys.modules)
        recipe = OrientAnythingV2Orient.made_of(config)
        assert recipe["weights"]["models.orient_anything_v2"].startswith("sha256:")
        (upstream / "repository" / "vggt" / "more.py").write_text("# another commit\n")
        changed = OrientAnythingV2Orient.made_of(config)
        code = "models.orient_anything_v2_repository"
        assert changed["weights"].pop(code) != recipe["weights"].pop(code)
        assert changed == recipe

    def test_the_repository_is_checked_before_anything_starts(self, upstream: Path, tmp_path: Path) -> None:
        class Models:
            orient_anything_v2_repository = str(upstream / "repository")

        assert repository_of(Models()) == upstream / "repository"  # type: ignore[arg-type]
        Models.orient_anything_v2_repository = str(tmp_path)
        with pytest.raises(ConfigError, match=r"no vision_tower\.py"):
            repository_of(Models())  # type: ignore[arg-type]

    def test_what_the_code_lacks_is_named(self, upstream: Path, tmp_path: Path) -> None:
        (tmp_path / "vision_tower.py").write_text("import einops_that_is_not_there\n")
        with pytest.raises(ConfigError, match="einops_that_is_not_there"):
            start(tmp_path, upstream / "weights" / V2_FILE)

    def test_another_repository_is_refused(self, upstream: Path, tmp_path: Path) -> None:
        (tmp_path / "vision_tower.py").write_text("class DINOv2_MLP: pass\n")
        with pytest.raises(ConfigError, match="VGGT_OriAny_Ref"):
            start(tmp_path, upstream / "weights" / V2_FILE)

    def test_foreign_weights_are_refused(self, upstream: Path, tmp_path: Path) -> None:
        state = torch.load(upstream / "weights" / V2_FILE, weights_only=True)
        del state["ref_sampler.net1.0.weight"]
        torch.save({**state, "vggt.other": torch.zeros(1)}, tmp_path / "a.pt")
        with pytest.raises(WeightsError, match=r"models\.orient_anything_v2") as error:
            start(upstream / "repository", tmp_path / "a.pt")
        assert "ref_sampler.net1.0.weight" in str(error.value)
        assert "vggt.other" in str(error.value)

    def test_the_tiny_variant_needs_no_files_and_is_always_the_same(self) -> None:
        config = parse_config({"models": {"variant": "tiny", "device": "cpu"}, "orient": {"views": 2}})
        row = {"id": "a", "vertices": masts().vertices, "faces": masts().faces}
        actor = OrientAnythingV2Orient(config)
        (outcome,) = run_actors([actor], [row], "id", "orient")
        assert outcome.row["votes"].shape == (2,)
        pictures = np.random.default_rng(0).integers(0, 256, (2, 518, 518, 3), np.uint8)
        here = answering(random_network(TinyNetwork), torch.device("cpu"))({"pictures": pictures})["logits"]
        np.testing.assert_allclose(actor.estimator.network(pictures), here, atol=1e-5)
        assert "tiny" in OrientAnythingV2Orient.made_of(config)["weights"]["models.orient_anything_v2"]


FAKE_WORKER = """
import os
import sys
import time
from pathlib import Path
import numpy as np
from actors.foundation.orient_anything.serving import serve
from sc3d.errors import FeatureError


class OutOfMemoryError(RuntimeError):
    pass


def behave(mode):
    print("about to", mode)
    if mode == "crash":
        print("the last words", file=sys.stderr)
        os._exit(7)
    if mode == "crash once" and not Path(sys.argv[1]).exists():
        Path(sys.argv[1]).touch()
        os._exit(7)
    if mode == "leave":
        sys.exit("no licence")
    if mode == "interrupt":
        raise KeyboardInterrupt
    if mode == "hang":
        time.sleep(60)
    if mode == "fail":
        raise ValueError("no such thing")
    if mode == "refuse":
        raise FeatureError("not finite")
    if mode == "fill":
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")


def prepare():
    behave(sys.argv[2] if len(sys.argv) > 2 else "")

    def answer(message):
        behave(message["mode"].tobytes().decode())
        return {"double": 2 * message["values"], "process": np.array([os.getpid()])}

    return answer


serve(prepare)
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "fake_worker.py").write_text(FAKE_WORKER)
    monkeypatch.syspath_prepend(tmp_path)
    made: list[ModelProcess] = []

    def make(at_start: str = "", start_seconds: float = 60.0, request_seconds: float = 60.0) -> ModelProcess:
        arguments = [str(tmp_path / "mark"), at_start]
        made.append(ModelProcess("the model", "fake_worker", arguments, start_seconds, request_seconds))
        return made[-1]

    yield make
    for process in made:
        process.close()


def ask(process: ModelProcess, mode: str = "", size: int = 3) -> dict[str, np.ndarray]:
    values = np.arange(size, dtype=np.float32)
    answer = process.request({"mode": np.frombuffer(mode.encode() or b"-", np.uint8), "values": values})
    assert np.array_equal(answer["double"], 2 * values)
    return answer


class TestProcess:
    def test_arrays_larger_than_a_pipe_go_both_ways(self, worker: Any) -> None:
        process = worker()
        first = ask(process, size=3_000_000)["process"]
        assert ask(process)["process"] == first
        assert process.starts == 1

    def test_a_process_that_ends_is_started_again_with_the_same_request(self, worker: Any) -> None:
        process = worker()
        first = ask(process)["process"]
        assert ask(process, "crash once")["process"] != first
        assert process.starts == 2

    def test_a_request_that_always_ends_it_is_an_error_with_its_last_words(self, worker: Any) -> None:
        process = worker()
        with pytest.raises(ModelProcessError, match="exit code 7") as error:
            ask(process, "crash")
        assert "the last words" in str(error.value)
        assert process.starts == 2
        ask(process)
        assert process.starts == 3

    def test_a_process_that_was_killed_is_started_again(self, worker: Any) -> None:
        process = worker()
        os.kill(int(ask(process)["process"][0]), signal.SIGKILL)
        ask(process, size=3_000_000)
        assert process.starts == 2

    def test_a_request_that_takes_too_long_is_ended(self, worker: Any) -> None:
        process = worker(request_seconds=1.5)
        hung = int(ask(process)["process"][0])
        with pytest.raises(ModelProcessError, match=r"within 2 s and was ended; it said: .*about to hang"):
            ask(process, "hang")
        with pytest.raises(ProcessLookupError):
            os.kill(hung, 0)
        process._request_seconds = 60.0
        ask(process)

    def test_an_error_keeps_its_class_if_it_is_one_of_ours(self, worker: Any) -> None:
        process = worker()
        with pytest.raises(Exception, match="not finite") as error:
            ask(process, "refuse")
        assert type(error.value).__name__ == "FeatureError"
        with pytest.raises(ModelProcessError, match="ValueError: no such thing"):
            ask(process, "fail")
        ask(process)
        assert process.starts == 3

    def test_code_that_leaves_by_exit_is_an_error_that_says_so(self, worker: Any) -> None:
        process = worker()
        with pytest.raises(ModelProcessError, match="SystemExit: no licence"):
            ask(process, "leave")
        with pytest.raises(ModelProcessError, match="KeyboardInterrupt"):
            ask(process, "interrupt")
        ask(process)
        assert process.starts == 3
        with pytest.raises(ModelProcessError, match="SystemExit: no licence"):
            worker("leave")

    def test_out_of_memory_says_so_and_the_process_goes_on(self, worker: Any) -> None:
        process = worker()
        with pytest.raises(ModelProcessError, match="out of memory"):
            ask(process, "fill")
        ask(process)
        assert process.starts == 1

    def test_failing_to_start_is_told_apart(self, worker: Any) -> None:
        with pytest.raises(ModelProcessError, match=r"did not start .*exit code 7.*the last words"):
            worker("crash")
        with pytest.raises(ModelProcessError, match="was not ready within"):
            worker("hang", start_seconds=1.0)
        with pytest.raises(ModelProcessError, match="no such thing"):
            worker("fail")
        with pytest.raises(ModelProcessError, match="No module named"):
            ModelProcess("the model", "no_such_module_at_all", [], 60, 60)

    def test_what_is_no_message_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(tmp_path)
        for text in (
            "print('hello, I am no worker', flush=True)",
            "import sys; sys.stdout.buffer.write(bytes([3] + [0] * 7) + b'abc')",
        ):
            (tmp_path / "chatty.py").write_text(f"{text}\nimport time; time.sleep(1)\n")
            with pytest.raises(ModelProcessError, match="what is no message"):
                ModelProcess("the model", "chatty", [], 60, 60)

    def test_it_ends_with_its_input(self, worker: Any, tmp_path: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "fake_worker", str(tmp_path / "mark"), ""]
        message = messages.encode({"mode": np.frombuffer(b"-", np.uint8), "values": np.ones(2, np.float32)})
        done = subprocess.run(command, input=message, capture_output=True, env=environment, timeout=60, check=True)
        (length,) = messages.LENGTH.unpack_from(done.stdout)
        assert set(messages.decode(done.stdout[8 : 8 + length])) == {"ready"}
        assert b"about to" not in done.stdout
        assert b"about to" in done.stderr

    def test_it_ends_with_a_killed_parent_even_while_it_computes(self, worker: Any, tmp_path: Path) -> None:
        worker()
        program = textwrap.dedent(f"""
            import sys
            import numpy as np
            from actors.foundation.orient_anything.process import ModelProcess
            process = ModelProcess("the model", "fake_worker", [{str(tmp_path / "mark")!r}, ""], 60, 60)
            print(process._running.process.pid, flush=True)
            process.request({{"mode": np.frombuffer(b"hang", np.uint8), "values": np.ones(1)}})
        """)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) as parent:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            time.sleep(0.3)
            parent.kill()
        deadline = time.monotonic() + 30
        while _is_running(child):
            assert time.monotonic() < deadline, "the worker outlived its parent"
            time.sleep(0.1)


def _is_running(process: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
