"""The catalogue of models: what is fetched is what actors read, what is missing says how to get it, commits are pinned, memory is known."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import types
from pathlib import Path

import boto3
import huggingface_hub
import pytest
from huggingface_hub import constants

from actors import catalogue
from actors.catalogue import MODELS, ModelCard, availability, download_command, gpu_memory_needed, pin_sources
from actors.foundation import depth_anything, dino, latent_diffusion, sam3d_upstream
from actors.foundation.orient_anything import v1
from actors.foundation.orient_anything.actor import V2_FILE
from actors.foundation.partfield import model as partfield
from actors.foundation.sam3 import loading as sam3
from benchmarks.models.count import count
from benchmarks.models.subjects import SUBJECTS
from pipelines.stages.describe import DescribeStage
from sc3d.config import ModelsConfig, RunConfig
from sc3d.config_file import load_config
from sc3d.errors import WeightsError

COMMIT, NEWER = "a" * 40, "b" * 40
READ = {
    "foreground": ("*.onnx",),
    "sam3": sam3.FILES,
    "sam3d": sam3d_upstream.FILES,
    "sam3d_depth": sam3d_upstream.DEPTH_FILES,
    "orient_anything_v1": (v1.FILE,),
    "orient_anything_v2": (V2_FILE,),
    "dinov2": dino.FILES,
    "dinov2_registers": dino.FILES,
    "dinov3": dino.FILES,
    "stable_diffusion": latent_diffusion.FILES,
    "dift": latent_diffusion.FILES,
    "partfield": (partfield.FILE,),
    **{f"depth_anything_v2_{size}": depth_anything.FILES for size in ("small", "base", "large")},
}


def card_of(name: str) -> ModelCard:
    (card,) = (card for card in MODELS if card.name == name)
    return card


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of the hub's client, which is offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def cached(cache: Path, repository: str, commit: str, *names: str) -> Path:
    """What the hub's client leaves behind after it fetched the main branch."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    for name in names:
        file = folder / "snapshots" / commit / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(commit)
    return folder / "snapshots" / commit


class TestFiles:
    def test_what_is_fetched_is_what_the_actors_read(self) -> None:
        assert {option: files for card in MODELS for option, files in card.sources} == READ

    def test_the_command_fetches_exactly_these(self) -> None:
        assert download_command("o/n@v1", ("a/b.pt",)) == "hf download o/n --revision v1 a/b.pt"
        assert download_command("o/n", ("*.json", "c.pt")) == "hf download o/n --include '*.json' --include c.pt"
        assert download_command("o/n", ("*pipeline.yaml", "*")) == "hf download o/n"

    @pytest.mark.parametrize("card", [card for card in MODELS if card.weights], ids=lambda card: card.name)
    def test_the_hub_s_command_line_takes_the_command(self, card: ModelCard) -> None:
        words = shlex.split(download_command(card.source, card.files))
        offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent"}
        done = subprocess.run([str(Path(sys.executable).with_name("hf")), *words[1:]], env=offline, capture_output=True, text=True)
        # 2: wrong usage; what it then lacks is the network.
        assert done.returncode == 1, done.stderr


class TestAvailability:
    def test_weights_in_the_hub_s_cache_are_found_when_they_are_whole(self, hub_cache: Path) -> None:
        card = card_of("DINOv2 ViT-B/14")
        assert availability(card, ModelsConfig()).problems == (download_command(card.source, card.files),)
        cached(hub_cache, card.source, COMMIT, "config.json")
        assert "hf download" in availability(card, ModelsConfig()).problems[0]
        folder = cached(hub_cache, card.source, COMMIT, "config.json", "model.safetensors")
        assert availability(card, ModelsConfig()) == catalogue.Availability((), folder)

    def test_a_folder_that_lacks_a_file_is_named_with_it(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").touch()
        (problem,) = availability(card_of("DINOv2 ViT-B/14"), ModelsConfig(dinov2=str(tmp_path))).problems
        assert str(tmp_path) in problem
        assert "*.safetensors" in problem
        assert "config" not in problem.replace(str(tmp_path), "")

    def test_the_depth_model_of_sam_3d_is_looked_for_as_well(self, hub_cache: Path, tmp_path: Path) -> None:
        card = card_of("SAM 3D Objects")
        (tmp_path / "pipeline.yaml").touch()
        found = availability(card, ModelsConfig(sam3d=str(tmp_path)))
        assert found.weights == tmp_path
        assert found.problems == ("hf download Ruicheng/moge-vitl model.pt",)
        cached(hub_cache, "Ruicheng/moge-vitl", COMMIT, "model.pt")
        assert availability(card, ModelsConfig(sam3d=str(tmp_path))).problems == ()

    def test_a_gated_model_says_whose_licence_to_accept(self, hub_cache: Path) -> None:
        licence, *commands = availability(card_of("SAM 3D Objects"), ModelsConfig()).problems
        assert licence == "accept the licence at https://huggingface.co/facebook/sam-3d-objects, log in with: hf auth login"
        assert [command.split()[:3] for command in commands] == [
            ["hf", "download", "facebook/sam-3d-objects"],
            ["hf", "download", "Ruicheng/moge-vitl"],
        ]

    def test_a_missing_package_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(catalogue, "find_spec", lambda name: None)
        for models in (ModelsConfig(variant="tiny"), ModelsConfig()):
            found = availability(card_of("Stable Diffusion 1.5"), models)
            assert found.missing == ("diffusers", "transformers")
            assert found.problems[0] == "install diffusers, transformers: pip install 'sc3d[foundation]'"
        assert availability(card_of("Stable Diffusion 1.5"), ModelsConfig(variant="none")).problems == ()

    def test_weights_in_a_bucket_need_not_be_here_before_the_run(self, s3_server: str, bucket: str, tmp_path: Path) -> None:
        client = boto3.client("s3", endpoint_url=s3_server)
        client.put_object(Bucket=bucket.removeprefix("s3://"), Key="partfield/model_objaverse.ckpt", Body=b"weights")
        card = card_of("PartField")
        models = ModelsConfig(partfield=f"{bucket}/partfield", cache=str(tmp_path))
        assert availability(card, models) == catalogue.Availability((), None)
        other = availability(card, ModelsConfig(partfield=f"{bucket}/elsewhere", cache=str(tmp_path)))
        assert "holds no files" in other.problems[0]


class TestPinning:
    def test_chosen_models_get_their_commit_and_recipes_stay_as_they_are(self, hub_cache: Path, tmp_path: Path) -> None:
        cached(hub_cache, "facebook/dinov2-base", COMMIT, "model.safetensors")
        (tmp_path / "model_objaverse.ckpt").write_bytes(b"weights")
        config = load_config(
            overrides=[
                "describe.dino=dinov2",
                "describe.shape=partfield",
                f"models.partfield={tmp_path}",
                "models.dinov2_positions=hub",
            ]
        )
        pinned = pin_sources(config)
        assert pinned.models.dinov2 == f"facebook/dinov2-base@{COMMIT}"
        assert pinned.models.partfield == str(tmp_path)
        # What is not chosen is not asked for: the hub is offline.
        assert pinned.models.dinov3 == config.models.dinov3
        assert pin_sources(pinned) == pinned
        for actor in DescribeStage(config).actors():
            assert actor.made_of(pinned) == actor.made_of(config)

    def test_a_pinned_run_keeps_its_weights_when_the_branch_moves(self, hub_cache: Path) -> None:
        cached(hub_cache, "facebook/dinov2-base", COMMIT, "model.safetensors")
        pinned = pin_sources(load_config(overrides=["describe.dino=dinov2"]))
        cached(hub_cache, "facebook/dinov2-base", NEWER, "model.safetensors")
        (actor,) = (a for a in DescribeStage(pinned).actors() if a is dino.DinoV2Source)
        assert actor.made_of(pinned)["weights"] == {"models.dinov2": f"facebook/dinov2-base@{COMMIT}"}

    def test_the_depth_model_is_pinned_with_sam_3d(self, monkeypatch: pytest.MonkeyPatch, hub_cache: Path) -> None:
        asked: list[str] = []

        def answer(repository: str, **_: object) -> types.SimpleNamespace:
            asked.append(repository)
            return types.SimpleNamespace(sha=COMMIT)

        monkeypatch.setattr(huggingface_hub, "model_info", answer)
        pinned = pin_sources(load_config(overrides=["reconstruct.mesh=sam3d"]))
        assert asked == ["facebook/sam-3d-objects", "Ruicheng/moge-vitl"]
        assert pinned.models.sam3d_depth == f"Ruicheng/moge-vitl@{COMMIT}"

    def test_a_hub_that_cannot_be_asked_is_an_error_with_what_to_do(self, hub_cache: Path) -> None:
        with pytest.raises(WeightsError, match=r"facebook/dinov2-base.*local path"):
            pin_sources(load_config(overrides=["describe.dino=dinov2"]))

    def test_what_needs_no_weights_asks_nobody(self, hub_cache: Path) -> None:
        for variant in ("tiny", "none"):
            without = load_config(overrides=["profile=foundation", f"models.variant={variant}"])
            assert pin_sources(without) is without
        assert pin_sources(RunConfig()) == RunConfig()


class TestMemory:
    def test_chosen_models_are_listed_and_half_precision_takes_half(self) -> None:
        needed = gpu_memory_needed(load_config(overrides=["profile=foundation"]))
        assert set(needed) == {
            "SAM 3", "SAM 3D Objects", "OrientAnything V2", "DINOv2 ViT-B/14", "Stable Diffusion 1.5", "PartField"
        }  # fmt: skip
        # A GPU that is sold as one of 32 GB has that many 10^9 bytes at least.
        assert 24 * 1e9 / 2**30 < needed["SAM 3D Objects"] <= 32e9 / 2**30
        single = gpu_memory_needed(load_config(overrides=["profile=foundation", "models.dtype=float32"]))
        assert single["SAM 3"] - 1 == pytest.approx(2 * (needed["SAM 3"] - 1))
        assert single["PartField"] == needed["PartField"]

    def test_without_a_gpu_nothing_is_needed(self) -> None:
        for overrides in (["models.device=cpu"], ["models.variant=tiny"], ["models.variant=none"]):
            assert gpu_memory_needed(load_config(overrides=["profile=foundation", *overrides])) == {}
        assert gpu_memory_needed(RunConfig()) == {}

    @pytest.mark.parametrize("name", ["DINOv2 ViT-B/14", "DINOv3 ViT-B/16", "OrientAnything V1", "Depth Anything V2 small"])
    def test_the_figures_are_those_that_are_counted(self, name: str) -> None:
        check_memory(name)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "name",
        [
            "SAM 3",
            "Stable Diffusion 1.5",
            "DIFT (Stable Diffusion 2.1)",
            "PartField",
            "Depth Anything V2 base",
            "Depth Anything V2 large",
        ],
    )
    def test_the_figures_of_large_models_are_those_that_are_counted(self, name: str) -> None:
        check_memory(name)

    def test_every_foundation_model_has_a_figure(self) -> None:
        assert all((card.gpu_gib > 0) == (card.profile == "foundation") for card in MODELS)


def check_memory(name: str) -> None:
    counted = max(count(subject).peak for subject in SUBJECTS if subject.card == name) / 2**30
    assert card_of(name).gpu_gib == pytest.approx(1.25 * counted, abs=0.1)


def test_the_document_s_downloads_are_those_of_the_catalogue() -> None:
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text().replace("\\\n", " ")
    written = [shlex.split(line) for line in text.splitlines() if line.startswith("hf download")]
    defaults = ModelsConfig()
    sources = [(getattr(defaults, option), files) for card in MODELS for option, files in card.sources]
    # A model of one's own is nowhere before it is named.
    wanted = [shlex.split(download_command(source, files)) for source, files in sources if source]
    assert sorted(written) == sorted(wanted)
