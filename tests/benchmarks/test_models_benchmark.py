"""The benchmark of the foundation models: its arithmetic on known work, that a failing variant is left out, and its subjects."""

from __future__ import annotations

import time

import pytest
import torch

from benchmarks import models
from benchmarks.models import SUBJECTS, Subject, Variant, Work, count_operations, run, variants


def build_product(size, device, dtype):
    """One 64 x 64 matrix product a record, which takes two milliseconds."""
    a = torch.ones(64, 64, device=device, dtype=dtype)

    def step(n: int) -> None:
        for _ in range(n):
            a @ a
            time.sleep(0.002 if device.type != "meta" else 0)

    return Work(step, step, [])


PRODUCT = Subject("product", "products", (1, 4), build_product)


def test_figures_of_a_known_amount_of_work(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(models, "peak_operations", lambda *_: 1e9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert count_operations(PRODUCT, "tiny") == 2 * 64**3
    figures = {f["figure"]: f for f in run("tiny", [PRODUCT], 0.02)}
    rate = next(f["value"] for name, f in figures.items() if name.startswith("product, float32, batch 1 ("))
    assert 0 < rate <= 500
    share = next(f for name, f in figures.items() if "matrix product reaches" in name)
    assert share["unit"] == "%"
    assert share["value"] == pytest.approx(100 * rate * 2 * 64**3 / 1e9, rel=1e-3)
    assert any("peak memory" in name for name in figures)
    assert not any("one after the other" in name for name in figures)


def test_a_variant_that_fails_is_named_and_left_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def build(size, device, dtype):
        if device.type != "meta" and dtype == torch.float16:
            raise torch.OutOfMemoryError("out of memory\nby far")
        return build_product(size, device, dtype)

    monkeypatch.setattr(models, "variants", lambda *_: [Variant(torch.float16, 1), Variant(torch.float32, 4, compiled=True)])
    names = [f["figure"] for f in run("tiny", [Subject("frail", "products", (1,), build)], 0.02)]
    assert not any("float16" in name for name in names)
    assert any("float32, batch 4, compiled" in name for name in names)
    assert "frail, float16, batch 1: OutOfMemoryError: out of memory\n" in capsys.readouterr().err


def test_gpus_run_every_batch_in_half_precision():
    tried = variants(PRODUCT, "full", torch.device("cuda"))
    assert {(v.dtype, v.batch) for v in tried} >= {(d, b) for d in (torch.bfloat16, torch.float16) for b in (1, 4)}
    assert [v.batch for v in tried if v.compiled] == [4, 4]
    assert variants(PRODUCT, "tiny", torch.device("cpu")) == [Variant(torch.float32, 1)]


@pytest.mark.parametrize(
    ("subject", "operations"), zip(SUBJECTS, (1.093e12, 1.096e12, 6.62e12, None), strict=True), ids=[s.name for s in SUBJECTS]
)
def test_subjects_have_the_published_sizes(subject, operations):
    """DINO: 3,605 tokens through 86 M parameters and 12 attentions. SD: the encoder 4.5 and the UNet's first two thirds 2.2 TFLOP."""
    counted = count_operations(subject, "full")
    assert counted == pytest.approx(operations or counted, rel=0.01)
    assert counted > 1e12


@pytest.mark.parametrize("subject", SUBJECTS[:3], ids=[s.name for s in SUBJECTS[:3]])
def test_subjects_run(subject):
    work = subject.build("tiny", torch.device("cpu"), torch.float32)
    work.whole(1)
    assert work.modules
