"""The tables of ``docs/models.md``: what is counted anywhere, and what is measured where this runs."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from actors.foundation.pretrained import Size
from benchmarks.models.count import Count, count
from benchmarks.models.measure import SECONDS, Measurement, choose_machine, measure, share_of_peak
from benchmarks.models.subjects import SUBJECTS, TOGETHER, Subject
from sc3d.errors import InputError

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "models.md"

TARGET = 30.0
"""Images a second that DINO and Stable Diffusion together are to describe on one GPU of the H200's class."""

PUBLISHED_PEAK = 989e12
"""Operations a second of an H200 in bfloat16, dense, as NVIDIA publishes it."""

_ONE = {"images": "image", "meshes": "mesh"}


def counted_table(subjects: Sequence[Subject] = SUBJECTS) -> str:
    """A Markdown table of what each model takes at its published size, and what the target asks of a GPU."""
    counts = {subject.name: count(subject) for subject in subjects}
    rows = [_counted_row(subject, counts[subject.name]) for subject in subjects]
    lines = _table(("model", "of one", "operations", "parameters", "weights", "at most, at the actor's batch"), rows)
    return "\n".join([*lines, *_target(counts)])


def measured_table(size: Size | None = None, subjects: Sequence[Subject] = SUBJECTS, seconds: float = SECONDS) -> str:
    """A Markdown table of what each model reaches on this machine: its best variant, and the share of peak of that."""
    device, size = choose_machine(size)
    found = {subject.name: each for subject in subjects if (each := list(measure(subject, size, device, seconds)))}
    where = (
        torch.cuda.get_device_name()
        if device.type == "cuda"
        else f"a CPU ({platform.machine()}, {torch.get_num_threads()} threads)"
    )
    if size == "tiny":
        # Neither the target nor a peak means anything for these.
        header, rows = ("model", "network alone", "with all around it"), [_rates(each) for each in found.values()]
        return "\n".join([f"Tiny models on {where}, PyTorch {torch.__version__}:", "", *_table(header, rows)])
    lines = [f"Published sizes on {where}, PyTorch {torch.__version__}:", ""]
    lines += _table(
        ("model", "network alone", "with all around it", "best variant", "GPU memory", "share of peak"),
        [(*_rates(each), *_best(each, size, device)) for each in found.values()],
    )
    if all(name in found for name in TOGETHER):
        rate = 1 / sum(1 / max(one.whole for one in found[name]) for name in TOGETHER)
        lines += ["", f"{' and '.join(TOGETHER)}, one after the other: {rate:.3g} images a second; the target is {TARGET:g}."]
    return "\n".join(lines)


def fill_in(document: str, name: str, table: str) -> str:
    """The Markdown ``document`` with what is between ``<!-- name -->`` and ``<!-- /name -->`` replaced.

    Raises:
        InputError: there is no such place.
    """
    found = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
    if not found.search(document):
        raise InputError(f"there is no place for a table between <!-- {name} --> and <!-- /{name} --> in the document")
    return found.sub(lambda match: f"{match[1]}{table}{match[2]}", document)


def write(document: Path = DOCUMENT, size: Size | None = None) -> None:
    """Count, measure, and fill both tables in: the measured one is the GPU's or the CPU's, by where this runs."""
    device, size = choose_machine(size)
    counted, measured = counted_table(), measured_table(size)
    text = fill_in(document.read_text(encoding="utf-8"), "counted", counted)
    text = fill_in(text, f"measured on a {'GPU' if device.type == 'cuda' else 'CPU'}", measured)
    document.write_text(text, encoding="utf-8")


def _counted_row(subject: Subject, one: Count) -> tuple[str, ...]:
    return (
        subject.name,
        _ONE[subject.unit],
        f"{one.operations / 1e12:.2f} TFLOP",
        f"{one.parameters / 1e6:.1f} M",
        f"{one.weights / 2**30:.2f} GiB",
        f"{one.peak / 2**30:.1f} GiB ({subject.batch})",
    )


def _target(counts: Mapping[str, Count]) -> Iterator[str]:
    if not all(name in counts for name in TOGETHER):
        return
    work = sum(counts[name].operations for name in TOGETHER)
    yield ""
    share = 100 * TARGET * work / PUBLISHED_PEAK
    yield f"{TARGET:g} images a second of {' and '.join(TOGETHER)} on one GPU:"
    yield (
        f"{work / 1e12:.2f} TFLOP an image, {TARGET * work / 1e12:.0f} TFLOP/s, {share:.0f} % of the {PUBLISHED_PEAK / 1e12:.0f} that "
        "NVIDIA publishes for an H200 (bfloat16, dense)."
    )


def _rates(each: Sequence[Measurement]) -> tuple[str, ...]:
    subject = each[0].subject
    fastest = max(one.rate for one in each), max(one.whole for one in each)
    return subject.name, *(f"{rate:.3g} {subject.unit}/s" for rate in fastest)


def _best(each: Sequence[Measurement], size: Size, device: torch.device) -> tuple[str, ...]:
    best = max(each, key=lambda one: one.rate)
    memory = "" if best.gib is None else f"{best.gib:.1f} GiB"
    return str(best.variant), memory, f"{100 * share_of_peak(best, size, device):.0f} %"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]
