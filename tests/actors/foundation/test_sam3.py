"""SAM 3: what goes into the model and comes out of it, which object is kept, and weights that are not its own."""

from __future__ import annotations

import ast
import importlib.util
import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from actors.base import run_actors
from actors.foundation.sam3 import actor as sam3_actor
from actors.foundation.sam3.actor import Sam3Mask, load_sam3, prompt_of
from actors.foundation.sam3.loading import load_model, load_tokenizer, random_model
from actors.foundation.sam3.model import Instances, Sam3, box_overlap, postprocess, preprocess
from actors.offline.masks import FileMask
from sc3d.config import RunConfig
from sc3d.config_file import parse_config
from sc3d.errors import FeatureError, InputError, PreflightError, WeightsError


@pytest.fixture(scope="module")
def small() -> Sam3:
    return Sam3(*random_model(), least_score=0.0)


def photo(height: int = 60, width: int = 90, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def answer(images: int, queries: int, side: int, seed: int) -> SimpleNamespace:
    """A random answer of the model's shapes."""
    random = torch.Generator().manual_seed(seed)
    corners = torch.rand(images, queries, 2, 2, generator=random).sort(dim=2).values
    return SimpleNamespace(
        pred_logits=torch.randn(images, queries, generator=random) * 2,
        presence_logits=torch.randn(images, 1, generator=random) + 1,
        pred_boxes=corners.flatten(2),
        pred_masks=torch.randn(images, queries, side, side, generator=random) * 4,
    )


def upstream_postprocess() -> Any:
    """The library's own method, taken out of its file, which cannot be imported without torchvision."""
    spec = importlib.util.find_spec("transformers")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse((Path(spec.origin).parent / "models/sam3/image_processing_sam3.py").read_text())
    wanted = ("_scale_boxes", "post_process_instance_segmentation")
    functions: list[ast.stmt] = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in wanted]
    for function in functions:
        function.returns = None  # type: ignore[attr-defined]
        for argument in function.args.args:  # type: ignore[attr-defined]
            argument.annotation = None
    space: dict[str, Any] = {"torch": torch}
    exec(compile(ast.Module(functions, []), "upstream", "exec"), space)  # noqa: S102  the point of this test
    return lambda *args, **kwargs: space["post_process_instance_segmentation"](None, *args, **kwargs)


class TestProcessing:
    @pytest.mark.parametrize("seed", range(4))
    def test_postprocessing_is_upstreams_to_the_last_bit(self, seed: int) -> None:
        raw = answer(3, 12, 24, seed)
        sizes = [(37, 50), (24, 24), (11, 70)]
        expected = upstream_postprocess()(raw, threshold=0.3, mask_threshold=0.5, target_sizes=sizes)
        found = postprocess(raw, sizes, 0.3)
        assert sum(len(one) for one in found) > 5
        for ours, theirs in zip(found, expected, strict=True):
            assert np.array_equal(ours.scores, theirs["scores"].numpy())
            assert np.array_equal(ours.boxes, theirs["boxes"].numpy())
            masks = [ours.mask(i) for i in range(len(ours))]
            assert all(np.array_equal(mask, other.numpy().astype(bool)) for mask, other in zip(masks, theirs["masks"], strict=True))

    def test_best_score_counts_those_that_are_left_out(self) -> None:
        raw = answer(1, 12, 24, 0)
        (found,) = postprocess(raw, [(24, 24)], 0.999)
        assert len(found) == 0
        scores = torch.sigmoid(raw.pred_logits) * torch.sigmoid(raw.presence_logits)
        assert found.best_score == pytest.approx(float(scores.max()))

    def test_an_answer_that_is_not_finite_is_an_error(self) -> None:
        raw = answer(1, 12, 24, 0)
        raw.pred_masks[0, :, 3, 3] = torch.nan
        with pytest.raises(FeatureError, match=r"models\.dtype=float32"):
            postprocess(raw, [(24, 24)], 0.0)

    def test_preprocessing_agrees_with_pillows_filter(self) -> None:
        image = photo(301, 187)
        resized = np.asarray(Image.fromarray(image).resize((112, 112), Image.Resampling.BILINEAR), np.float64)
        ours = preprocess(image, 112)[0].permute(1, 2, 0).numpy() * 127.5 + 127.5
        assert np.abs(ours - resized).max() <= 1.01

    def test_preprocessing_maps_8_bits_to_minus_one_and_one(self) -> None:
        assert (preprocess(np.zeros((20, 30, 3), np.uint8), 28) == -1).all()
        assert (preprocess(np.full((20, 30, 3), 255, np.uint8), 28) == 1).all()

    def test_a_read_only_photo_is_read_without_a_warning(self) -> None:
        image = photo()
        image.flags.writeable = False
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            preprocess(image, 28)

    @pytest.mark.parametrize("image", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3)), np.zeros((0, 5, 3), np.uint8)])
    def test_what_is_no_photo_is_refused(self, image: np.ndarray) -> None:
        with pytest.raises(InputError, match="uint8"):
            preprocess(image, 28)


class TestSegment:
    def test_an_image_is_encoded_once_for_several_prompts(self, small: Sam3, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = []
        encode = small.model.get_vision_features
        monkeypatch.setattr(small.model, "get_vision_features", lambda **k: calls.append(1) or encode(**k))
        found = small.segment(photo(), ["bus", "dining table", "bus"])
        assert len(calls) == 1
        for prompt, instances in zip(("bus", "dining table"), found, strict=False):
            tokens = small.tokenizer(prompt, padding="max_length", max_length=32, return_tensors="pt")
            with torch.inference_mode():
                direct = small.model(
                    pixel_values=preprocess(photo(), small.side),
                    input_ids=tokens["input_ids"],
                    attention_mask=tokens["attention_mask"],
                )
            (expected,) = postprocess(direct, [(60, 90)], 0.0)
            assert np.array_equal(instances.scores, expected.scores)
            assert torch.equal(instances.inside, expected.inside)
        assert not np.array_equal(found[0].scores, found[1].scores)
        assert np.array_equal(found[0].scores, found[2].scores)

    def test_images_of_a_batch_do_not_influence_one_another(self, small: Sam3) -> None:
        images = [photo(60, 90, 1), photo(33, 21, 2)]
        together = small.find(small.encode(images), ["car", "cat"])
        for image, prompt, one in zip(images, ("car", "cat"), together, strict=True):
            (alone,) = small.segment(image, [prompt])
            np.testing.assert_allclose(one.scores, alone.scores, atol=1e-5)
            np.testing.assert_allclose(one.boxes, alone.boxes, atol=1e-3)
            assert one.mask(0).shape == image.shape[:2]

    def test_a_prompt_longer_than_the_model_reads_is_cut(self, small: Sam3) -> None:
        assert len(small.segment(photo(), ["a" * 80])[0]) == 10

    def test_bad_prompts_are_refused(self, small: Sam3) -> None:
        with pytest.raises(InputError, match="empty"):
            small.segment(photo(), [" "])
        with pytest.raises(InputError, match="2 images"):
            small.find(small.encode([photo(), photo()]), ["car"])
        with pytest.raises(InputError, match="no image"):
            small.encode([])

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_gives_nearly_the_same(self, small: Sam3, dtype: torch.dtype) -> None:
        half = Sam3(*random_model(), dtype=dtype, least_score=0.0).segment(photo(), ["car"])[0]
        (whole,) = small.segment(photo(), ["car"])
        np.testing.assert_allclose(half.scores, whole.scores, atol=0.01)
        assert half.scores.dtype == np.float32


def instances(boxes: list[list[float]], scores: list[float], filled: list[bool] | None = None) -> Instances:
    inside = torch.zeros(len(boxes), 4, 4)
    inside[torch.tensor(filled if filled else [True] * len(boxes))] = 0.9
    return Instances(np.array(scores, np.float32), np.array(boxes, np.float32), inside, (40, 40), max(scores))


class TestChoice:
    BOXES = [[0, 0, 10, 10], [20, 20, 40, 40], [22, 20, 40, 40]]

    def test_without_a_box_the_score_decides(self) -> None:
        assert instances(self.BOXES, [0.5, 0.9, 0.7]).choose() == 1

    def test_the_box_outweighs_the_score(self) -> None:
        assert instances(self.BOXES, [0.4, 0.9, 0.7]).choose(np.array([1, 1, 11, 11])) == 0
        assert instances(self.BOXES, [0.4, 0.9, 0.7]).choose(np.array([22, 20, 40, 40])) == 2

    def test_of_equal_boxes_the_score_decides(self) -> None:
        assert instances([[0, 0, 9, 9]] * 3, [0.4, 0.9, 0.7]).choose(np.array([0, 0, 9, 9])) == 1

    def test_an_object_elsewhere_is_another_one(self) -> None:
        assert instances(self.BOXES, [0.4, 0.9, 0.7]).choose(np.array([12, 0, 18, 10])) is None
        assert instances(self.BOXES[:1], [0.9]).choose(np.array([8, 8, 18, 18])) is None

    def test_empty_masks_are_passed_over(self) -> None:
        assert instances(self.BOXES, [0.5, 0.9, 0.7], [True, False, True]).choose() == 2
        assert instances(self.BOXES, [0.5, 0.9, 0.7], [False] * 3).choose() is None

    def test_overlap_of_boxes(self) -> None:
        found = box_overlap(np.array([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 6], [1, 1, 1, 1]]), np.array([0, 0, 2, 2]))
        np.testing.assert_allclose(found, [1, 1 / 7, 0, 0])


class FakeSam3(nn.Module):
    """Answers as upstream documents: two cars, the right one with the better score; a wall of the whole image; no dog."""

    ANSWERS = {"car": (3.0, [(2, 10, 14, 26), (18, 8, 30, 24)]), "wall": (3.0, [(0, 0, 32, 32)]), "dog": (-3.0, [(0, 0, 9, 9)])}

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.config = SimpleNamespace(vision_config=SimpleNamespace(image_size=28))

    def get_vision_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return pixel_values

    def get_text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(pooler_output=input_ids[..., None].float())

    def forward(self, vision_embeds: torch.Tensor, text_embeds: Any, attention_mask: torch.Tensor) -> SimpleNamespace:
        batch = len(vision_embeds)
        out = SimpleNamespace(
            pred_logits=torch.full((batch, 3), -9.0),
            presence_logits=torch.zeros(batch, 1),
            pred_boxes=torch.zeros(batch, 3, 4),
            pred_masks=torch.full((batch, 3, 32, 32), -9.0),
        )
        for i, ids in enumerate(text_embeds.pooler_output[..., 0].long()):
            presence, boxes = self.ANSWERS[self.tokenizer.decode(ids[attention_mask[i].bool()], skip_special_tokens=True).strip()]
            out.presence_logits[i] = presence
            for query, (x1, y1, x2, y2) in enumerate(boxes):
                out.pred_logits[i, query] = 1.0 + query
                out.pred_boxes[i, query] = torch.tensor([x1, y1, x2, y2]) / 32
                out.pred_masks[i, query, y1:y2, x1:x2] = 9.0
        return out


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> Sam3Mask:
    tokenizer = random_model()[1]
    monkeypatch.setattr(sam3_actor, "load_sam3", lambda models: Sam3(FakeSam3(tokenizer), tokenizer))
    return Sam3Mask(RunConfig())


def row(category: str = "car", bbox: Any = None, mask_path: str | None = None) -> dict[str, Any]:
    box = None if bbox is None else np.array(bbox, np.float32)
    named = {"id": category, "path": "p.jpg", "category": category}
    return {**named, "image": photo(64, 64), "bbox": box, "mask_path": mask_path, "cut_out": None}


class TestActor:
    def test_it_has_the_contract_of_the_offline_actor(self) -> None:
        assert Sam3Mask.requires == FileMask.requires
        assert Sam3Mask.provides == FileMask.provides

    def test_the_box_chooses_among_several_objects(self, actor: Sam3Mask) -> None:
        left, right, best = (
            out.row["mask"]
            for out in run_actors([actor], [row(bbox=(4, 20, 28, 52)), row(bbox=(36, 16, 60, 48)), row()], "id", "s")
        )
        assert left.shape == (64, 64)
        assert left.dtype == np.bool_
        assert left[:, :32].sum() == pytest.approx(24 * 32, rel=0.05)
        assert not left[:, 32:].any()
        assert right[:, 32:].sum() == pytest.approx(24 * 32, rel=0.05)
        assert np.array_equal(best, right)

    def test_a_category_that_is_not_there_is_a_reject_that_names_it(self, actor: Sam3Mask) -> None:
        good, bad = run_actors([actor], [row(), row("dog")], "id", "reconstruct")
        assert good.row["mask"].any()
        assert bad.reject is not None
        assert bad.reject.error_type == "InputError"
        assert "p.jpg" in bad.reject.message
        assert "'dog', finds none" in bad.reject.message
        assert "--masks" in bad.reject.message

    def test_objects_elsewhere_than_the_box_are_a_reject(self, actor: Sam3Mask) -> None:
        (out,) = run_actors([actor], [row(bbox=(0, 0, 8, 8))], "id", "reconstruct")
        assert out.reject is not None
        assert "[0, 0, 8, 8]" in out.reject.message

    def test_a_mask_of_the_whole_photo_is_a_reject(self, actor: Sam3Mask) -> None:
        (out,) = run_actors([actor], [row("wall")], "id", "reconstruct")
        assert out.reject is not None
        assert "whole photo" in out.reject.message

    def test_mask_files_come_first_where_they_are_asked_for(self, actor: Sam3Mask, tmp_path: Path) -> None:
        drawn = np.zeros((64, 64), bool)
        drawn[5:9, 5:20] = True
        Image.fromarray(drawn.astype(np.uint8) * 255).save(tmp_path / "m.png")
        Image.fromarray(photo(64, 64)).save(tmp_path / "p.png")
        asked = {**row("dog", mask_path=str(tmp_path / "m.png")), "path": str(tmp_path / "p.png")}
        from_file, found = actor.process_batch([asked, row()])
        assert np.array_equal(from_file["mask"], drawn)
        assert not np.array_equal(found["mask"], drawn)
        actor.config = parse_config({"reconstruct": {"mask": "sam3"}})
        with pytest.raises(InputError, match="'dog'"):
            actor.process_batch([asked])

    def test_words_for_categories(self) -> None:
        assert prompt_of("tvmonitor") == "tv monitor"
        assert prompt_of("traffic_light") == "traffic light"
        assert prompt_of("car") == "car"

    def test_the_tiny_variant_needs_no_files_and_is_always_the_same(self) -> None:
        config = parse_config({"models": {"variant": "tiny", "device": "cpu"}})
        # Wherever the box is: a trial run goes through.
        rows = [row(bbox=(1, 1, 5, 60))]
        masks = [run_actors([Sam3Mask(config)], rows, "id", "s")[0].row["mask"] for _ in range(2)]
        assert masks[0].any()
        assert np.array_equal(*masks)
        assert "tiny" in Sam3Mask.made_of(config)["weights"]["models.sam3"]


def saved(folder: Path, **tokenizer_files: str) -> Path:
    model, tokenizer = random_model()
    model.save_pretrained(folder)  # type: ignore[operator]
    if tokenizer_files:
        for name, text in tokenizer_files.items():
            (folder / name.replace("_", ".")).write_text(text)
    else:
        tokenizer.save_pretrained(folder)
    return folder


def config_of(folder: Path) -> RunConfig:
    return parse_config({"models": {"sam3": str(folder), "device": "cpu", "cache": str(folder / "cache")}})


class TestLoading:
    def test_a_folder_gives_the_model_that_was_saved(self, small: Sam3, tmp_path: Path) -> None:
        loaded = load_sam3(config_of(saved(tmp_path)).models)
        loaded.least_score = 0.0
        assert np.array_equal(loaded.segment(photo(), ["car"])[0].scores, small.segment(photo(), ["car"])[0].scores)
        assert loaded.least_score < sam3_actor.LEAST_SCORE

    def test_the_published_layout_is_that_of_the_video_model(self, small: Sam3, tmp_path: Path) -> None:
        saved(tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam3_video", "detector_config": config}))
        tensors = {f"detector_model.{name}": value for name, value in load_file(tmp_path / "model.safetensors").items()}
        save_file({**tensors, "tracker_model.x": torch.zeros(2)}, tmp_path / "model.safetensors", {"format": "pt"})
        own = small.model.state_dict()
        assert all(torch.equal(value, own[name]) for name, value in load_model(tmp_path).state_dict().items())

    def test_a_tokenizer_may_be_words_and_merges(self, small: Sam3, tmp_path: Path) -> None:
        words = json.dumps(small.tokenizer.get_vocab())
        loaded = load_sam3(config_of(saved(tmp_path, vocab_json=words, merges_txt="#version: 0.2\n")).models)
        assert loaded.tokenizer("dining table")["input_ids"] == small.tokenizer("dining table")["input_ids"]

    def test_missing_pieces_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="no such file or folder"):
            load_sam3(config_of(tmp_path / "nowhere").models)
        with pytest.raises(WeightsError, match=r"merges\.txt"):
            load_sam3(config_of(saved(tmp_path, vocab_json="{}")).models)
        with pytest.raises(WeightsError, match=r"tokenizer\.json"):
            load_tokenizer(tmp_path, 514)

    def test_a_foreign_tokenizer_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="49408"):
            load_tokenizer(saved(tmp_path), 49408)

    def test_foreign_weights_are_refused(self, tmp_path: Path) -> None:
        from transformers import Dinov2Config, Dinov2Model

        Dinov2Model(Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(tmp_path)
        with pytest.raises(WeightsError, match="dinov2"):
            load_model(tmp_path)

    def test_weights_that_lack_tensors_are_refused(self, tmp_path: Path) -> None:
        tensors = load_file(saved(tmp_path) / "model.safetensors")
        save_file({k: v for k, v in tensors.items() if "detr_decoder" not in k}, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(WeightsError, match="detr_decoder"):
            load_model(tmp_path)

    def test_truncated_weights_are_refused(self, tmp_path: Path) -> None:
        file = saved(tmp_path) / "model.safetensors"
        file.write_bytes(file.read_bytes()[:5000])
        with pytest.raises(WeightsError, match="fetch it again"):
            load_model(tmp_path)

    def test_without_the_library_the_error_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "transformers", None)
        with pytest.raises(PreflightError, match=r"sc3d\[foundation\]"):
            Sam3Mask(parse_config({"models": {"variant": "tiny"}}))

    def test_the_recipe_follows_weights_precision_and_options(self, tmp_path: Path) -> None:
        first = Sam3Mask.made_of(config_of(saved(tmp_path / "a")))
        assert first["weights"]["models.sam3"].startswith("sha256:")
        tensors = load_file(saved(tmp_path / "b") / "model.safetensors")
        next(iter(tensors.values())).add_(1)
        save_file(tensors, tmp_path / "b" / "model.safetensors", {"format": "pt"})
        assert Sam3Mask.made_of(config_of(tmp_path / "b")) != first
        base = {"models": {"variant": "tiny"}}
        for change in ({"models": {"variant": "tiny", "dtype": "bfloat16"}}, {**base, "reconstruct": {"mask": "sam3"}}):
            assert Sam3Mask.made_of(parse_config(change)) != Sam3Mask.made_of(parse_config(base))
        # What auto stands for where a tiny model runs.
        named = parse_config({"models": {"variant": "tiny", "dtype": "float32"}})
        assert Sam3Mask.made_of(named) == Sam3Mask.made_of(parse_config(base))
