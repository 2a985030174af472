"""The benchmark of the foundation models: its arithmetic on known work, variants, what is counted at full size, and its tables."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from actors.catalogue import MODELS
from benchmarks.models import measure, run, table
from benchmarks.models.count import count
from benchmarks.models.measure import Variant, variants
from benchmarks.models.subjects import SUBJECTS, TOGETHER, Subject, Work, build_sam3, set_layout
from benchmarks.models.table import DOCUMENT, counted_table, fill_in, measured_table
from sc3d.errors import InputError

CUDA = torch.device("cuda")
CPU = torch.device("cpu")


def build_product(size: Any, device: torch.device, dtype: torch.dtype) -> Work:
    """One 64 x 64 matrix product a record, which takes two milliseconds; its weights are 4,096 numbers."""
    layer = torch.nn.Linear(64, 64, bias=False, device=device, dtype=dtype)
    a = torch.ones(64, 64, device=device, dtype=dtype)

    @torch.inference_mode()
    def step(n: int) -> None:
        kept = []
        for _ in range(n):
            kept.append(layer(a))
            time.sleep(0.002 if device.type != "meta" else 0)

    return Work(step, step, [layer])


PRODUCT = Subject("product", "product", "images", 3, (1, 4), build_product, ("channels last",))


def by_name(name: str) -> Subject:
    (subject,) = (subject for subject in SUBJECTS if subject.name.startswith(name))
    return subject


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


class TestMeasure:
    @pytest.mark.usefixtures("no_gpu")
    def test_figures_of_a_known_amount_of_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(measure, "peak_operations", lambda *_: 1e9)
        figures = {f["figure"]: f for f in run("tiny", [PRODUCT], 0.02)}
        rate = next(f["value"] for name, f in figures.items() if name.startswith("product, float32, batch 1 ("))
        assert 0 < rate <= 500
        share = next(f for name, f in figures.items() if "matrix product reaches" in name)
        assert share["unit"] == "%"
        assert share["value"] == pytest.approx(100 * rate * 2 * 64**3 / 1e9, rel=1e-3)
        assert any("peak memory" in name for name in figures)
        assert not any("one after the other" in name for name in figures)

    @pytest.mark.usefixtures("no_gpu")
    def test_a_variant_that_fails_is_named_and_left_out(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def build(size: Any, device: torch.device, dtype: torch.dtype) -> Work:
            if dtype == torch.float16:
                raise torch.OutOfMemoryError("out of memory\nby far")
            return build_product(size, device, dtype)

        tried = [
            Variant(torch.float16, 1),
            Variant(torch.float32, 4, compiled=True),
            Variant(torch.float32, 2, layout="channels last"),
        ]
        monkeypatch.setattr(measure, "variants", lambda *_: tried)
        names = [f["figure"] for f in run("tiny", [Subject("frail", "product", "images", 1, (1,), build)], 0.02)]
        assert not any("float16" in name for name in names)
        assert any("float32, batch 4, compiled" in name for name in names)
        assert any("float32, batch 2, channels last" in name for name in names)
        assert "frail, float16, batch 1: OutOfMemoryError: out of memory\n" in capsys.readouterr().err

    def test_gpus_run_every_batch_in_half_precision_compiled_and_in_other_layouts(self) -> None:
        tried = variants(PRODUCT, "full", CUDA)
        assert {(v.dtype, v.batch) for v in tried} >= {(d, b) for d in (torch.bfloat16, torch.float16) for b in (1, 4)}
        assert [v.batch for v in tried if v.compiled] == [4, 4]
        assert [(v.batch, v.layout) for v in tried if v.layout] == [(4, "channels last")] * 2
        assert variants(PRODUCT, "tiny", CPU) == [Variant(torch.float32, 1)]

    def test_layouts_change_strides_and_no_value(self) -> None:
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv3d(1, 2, 3), torch.nn.Linear(2, 2)).requires_grad_(
            False
        )
        kernel, before = network[0].weight, network[0].weight.clone()
        set_layout(network, "channels last")
        assert kernel.is_contiguous(memory_format=torch.channels_last)
        assert not kernel.is_contiguous()
        assert torch.equal(kernel, before)
        assert network[0](torch.zeros(1, 3, 9, 9)).is_contiguous(memory_format=torch.channels_last)
        set_layout(network, "contiguous")
        assert kernel.is_contiguous()


class TestCount:
    def test_a_known_amount_of_work(self) -> None:
        one = count(PRODUCT)
        assert one.operations == 2 * 64**3
        assert one.parameters == 64 * 64
        assert one.weights == 2 * 64 * 64
        # A batch of three: their outputs live at the same time.
        assert one.peak == 2 * 64 * 64 * (1 + 3)

    def test_memory_that_is_given_back_does_not_count(self) -> None:
        def build(size: Any, device: torch.device, dtype: torch.dtype) -> Work:
            a = torch.ones(1000, device=device, dtype=dtype)

            def step(n: int) -> None:
                for _ in range(10):
                    (a + 1).mul_(2).view(10, 100)

            return Work(step, step, [])

        assert count(Subject("sums", "sums", "images", 1, (1,), build)).peak == 2 * 1000

    def test_attention_is_counted_without_its_matrix(self) -> None:
        def build(size: Any, device: torch.device, dtype: torch.dtype) -> Work:
            q = torch.ones(1, 2, 4096, 64, device=device, dtype=dtype)

            def step(n: int) -> object:
                return torch.nn.functional.scaled_dot_product_attention(q, q, q)

            return Work(step, step, [])

        one = count(Subject("attention", "attention", "images", 1, (1,), build))
        assert one.operations == 2 * 2 * 2 * 4096**2 * 64
        assert one.peak < 2 * 4096**2

    @pytest.mark.parametrize(
        ("name", "operations", "parameters"),
        [
            # 3,605 tokens through 86 M parameters and 12 attentions.
            ("DINOv2 ViT-B/14", 1.093e12, 88.3e6),
            ("DINOv3 ViT-B/16", 1.096e12, 85.7e6),
            # Eight times 257 tokens through ViT-L/14.
            ("OrientAnything V1", 1.296e12, 306.1e6),
        ],
    )
    def test_published_sizes(self, name: str, operations: float, parameters: float) -> None:
        one = count(by_name(name))
        assert one.operations == pytest.approx(operations, rel=0.01)
        assert one.parameters == pytest.approx(parameters, rel=0.01)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "operations", "parameters"),
        [
            # The image encoder 5.6, the head 0.4; the text encoder, 0.02, once a category.
            ("SAM 3", 6.05e12, 840.4e6),
            # The encoder 4.5 and the UNet's first two thirds 2.2.
            ("Stable Diffusion 1.5, four tiles", 6.62e12, 851.3e6),
            ("PartField", 1.38e12, 101.9e6),
        ],
    )
    def test_published_sizes_of_the_larger(self, name: str, operations: float, parameters: float) -> None:
        one = count(by_name(name))
        assert one.operations == pytest.approx(operations, rel=0.01)
        assert one.parameters == pytest.approx(parameters, rel=0.01)


class TestSubjects:
    @pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
    def test_they_run(self, subject: Subject) -> None:
        work = subject.build("tiny", CPU, torch.float32)
        work.step(1)
        work.whole(1)
        assert work.modules

    def test_they_are_those_of_the_catalogue(self) -> None:
        foundation = {card.name for card in MODELS if card.profile == "foundation"}
        # These two run their authors' code.
        assert foundation - {subject.card for subject in SUBJECTS} == {"SAM 3D Objects", "OrientAnything V2"}
        assert set(TOGETHER) <= {subject.name for subject in SUBJECTS}

    def test_a_step_of_sam_3_encodes_a_text(self, monkeypatch: pytest.MonkeyPatch) -> None:
        work = build_sam3("tiny", CPU, torch.float32)
        work.step(1)
        encoder = next(m for m in work.modules if type(m).__name__.startswith("CLIPText"))
        calls: list[int] = []
        encoder.register_forward_hook(lambda *_: calls.append(1))
        work.step(2)
        assert len(calls) == 1


class TestTables:
    @pytest.mark.usefixtures("no_gpu")
    def test_measured_rows_name_the_best_variant_and_its_share_of_peak(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # One step of a batch takes as long as another, so the larger one has the higher rate.
        def build(size: Any, device: torch.device, dtype: torch.dtype) -> Work:
            layer = torch.nn.Linear(64, 64, bias=False, device=device, dtype=dtype)

            def step(n: int) -> object:
                time.sleep(0.002 if device.type != "meta" else 0)
                return layer(torch.ones(64, 64, device=device, dtype=dtype))

            return Work(step, step, [layer])

        monkeypatch.setattr(measure, "variants", lambda *_: [Variant(torch.float32, batch) for batch in (1, 64)])
        monkeypatch.setattr(measure, "peak_operations", lambda *_: 1e9)
        subject = Subject("product", "product", "images", 1, (1,), build)
        lines = measured_table("full", [subject], 0.02).splitlines()
        assert lines[0].startswith("Published sizes on a CPU")
        name, rate, _, variant, memory, share = (cell.strip() for cell in lines[-1].strip("|").split("|"))
        assert (name, variant, memory) == ("product", "float32, batch 64", "")
        assert float(share.removesuffix(" %")) == pytest.approx(100 * float(rate.split()[0]) * 2 * 64**3 / 1e9, rel=0.02)
        tiny = measured_table("tiny", [subject], 0.02).splitlines()
        assert tiny[0].startswith("Tiny models on a CPU")
        assert [line.count("|") for line in tiny[2:]] == [4, 4, 4]

    def test_only_the_named_place_is_filled_in(self) -> None:
        before = "a\n<!-- one -->\nold\nlines\n<!-- /one -->\nb\n<!-- two -->\nkept\n<!-- /two -->\n"
        after = fill_in(before, "one", "| \\1 |")
        assert after == before.replace("old\nlines", "| \\1 |")
        with pytest.raises(InputError, match="<!-- three -->"):
            fill_in(before, "three", "")

    @pytest.mark.usefixtures("no_gpu")
    def test_both_tables_are_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        document = tmp_path / "models.md"
        document.write_text(DOCUMENT.read_text())
        monkeypatch.setattr(table, "counted_table", lambda: "| counted |")
        monkeypatch.setattr(table, "measured_table", lambda size: f"| measured {size} |")
        table.write(document)
        text = document.read_text()
        assert "<!-- counted -->\n| counted |\n<!-- /counted -->" in text
        assert "<!-- measured on a CPU -->\n| measured tiny |\n<!-- /measured on a CPU -->" in text
        assert "<!-- measured on a GPU -->" in text

    @pytest.mark.slow
    def test_the_document_shows_what_is_counted(self) -> None:
        assert f"<!-- counted -->\n{counted_table()}\n<!-- /counted -->" in DOCUMENT.read_text()
