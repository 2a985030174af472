"""The label card: what a set of labels is, how it was made, what binds it, and where it fails. And the table of a record's columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pyarrow as pa

from sc3d.datasets.label_export.counts import HISTOGRAM, LabelCounts
from sc3d.schema import Record, arrow_schema, column_meanings

CITATION = """```bibtex
@misc{3dsc,
  title         = {Geometry Matters},
  eprint        = {2605.30093},
  archivePrefix = {arXiv},
  url           = {https://arxiv.org/abs/2605.30093}
}
```"""

LIMITS = """- These are pseudo-labels: nobody looked at them. The thresholds trade their number for their precision; on annotated pairs,
  `sc3d evaluate` measures it.
- Labels are cell centres of a grid of 60 x 60 cells over the padded image, so a coordinate is exact to half a cell at best.
- Only parts that both images show are matched. Parts that move against each other are not modelled, and a symmetric object
  whose turn was taken wrongly has its sides exchanged.
- One object an image, of one category an image."""


@dataclass(frozen=True)
class ModelUse:
    """A model that the labels were made with, and what its licence asks. ``weights``: what identifies them; empty: it has none."""

    role: str
    name: str
    source: str
    licence: str
    commercial: str
    weights: str


@dataclass(frozen=True)
class LabelCard:
    """Everything the card says.

    ``counts``: category -> split -> counts of what was exported; ``images``: category -> images of the manifest; ``left_out``: pairs with
    too few labels. ``rejects``: (stage, kind of error, count). ``thresholds``: tau_cc and tau_geo, or none for labels that came without.
    ``origin``: a sentence on where labels come from that were not made here; empty for a run's own. ``licence``: of the labels, or none.
    ``caveat``: what has to be said about how a run's own were verified, or nothing. ``means``: (what, how) of masks, meshes and features.
    """

    title: str
    version: str
    recipe: str
    counts: Mapping[str, Mapping[str, LabelCounts]]
    images: Mapping[str, int]
    left_out: int
    planned_pairs: int
    rejects: Sequence[tuple[str, str, int]]
    models: Sequence[ModelUse]
    thresholds: tuple[float, float] | None
    origin: str = ""
    caveat: str = ""
    means: Sequence[tuple[str, str]] = ()
    licence: str | None = None
    layout: str = ""
    split_names: Mapping[str, str] = field(default_factory=dict)

    def markdown(self) -> str:
        """The card as Markdown."""
        parts = [
            f"# {self.title}",
            self._introduction(),
            *(("## Files", self.layout) if self.layout else ()),
            "## Counts",
            self._by_category(),
            self._histogram(),
            "## How they were made",
            self._making(),
            *(("### Meshes and features", table(["what", "how it was made"], self.means)) if self.means else ()),
            *(("### Models", self._models()) if self.models else ()),
            *(("### Rejected records", self._rejects()) if self.rejects else ()),
            "## Licences",
            self._obligations(),
            "## Known limits",
            LIMITS,
            "## How to cite",
            f"The method, and the data set that the images come from:\n\n{CITATION}",
        ]
        return "\n\n".join(parts) + "\n"

    @property
    def total(self) -> LabelCounts:
        """Counts of everything exported."""
        return LabelCounts.total(part for splits in self.counts.values() for part in splits.values())

    def _introduction(self) -> str:
        return (
            f"{self.total.labels:,} semantic correspondences between {self.total.pairs:,} ordered pairs of images in "
            f"{len(self.counts)} categories, exported with sc3d {self.version}. A correspondence says which pixel of the target "
            "image shows the same part of the object as a pixel of the source image."
        )

    def _by_category(self) -> str:
        splits = list(dict.fromkeys(split for parts in self.counts.values() for split in parts))
        header = ["category", "images", *(f"pairs, {self.split_names.get(s, s)}" for s in splits), "labels", "labels a pair"]
        rows = [self._row(name, self.images.get(name, 0), parts, splits) for name, parts in sorted(self.counts.items())]
        everything = {s: LabelCounts.total(parts[s] for parts in self.counts.values() if s in parts) for s in splits}
        return table(header, [*rows, self._row("all", sum(self.images.values()), everything, splits)])

    @staticmethod
    def _row(name: str, images: int, parts: Mapping[str, LabelCounts], splits: Sequence[str]) -> list[str]:
        whole = LabelCounts.total(parts.values())
        pairs = [f"{parts.get(s, LabelCounts()).pairs:,}" for s in splits]
        mean = f"{whole.labels / whole.pairs:,.1f}" if whole.pairs else "-"
        return [name, f"{images:,}", *pairs, f"{whole.labels:,}", mean]

    def _histogram(self) -> str:
        total = self.total
        ends = [
            *(f"{low} to {high - 1}" if high - low > 1 else f"{low}" for low, high in pairwise(HISTOGRAM)),
            f"{HISTOGRAM[-1]} and more",
        ]
        longest = max(total.histogram) or 1
        rows = [
            [name, f"{count:,}", "█" * round(30 * count / longest)]
            for name, count in zip(ends, total.histogram, strict=True)
            if count or name != "0"
        ]
        return table(["labels a pair", "pairs", ""], rows)

    def _making(self) -> str:
        total = self.total
        lines = [self.origin] if self.origin else ["The pairs were matched and verified by the method of 3D-SC (arXiv 2605.30093)."]
        lines.append(f"- recipe of the labels: `{self.recipe}`")
        lines += [f"- **not verified independently**: {self.caveat}"] if self.caveat else []
        lines.append(f"- pairs that were planned: {self.planned_pairs:,}; left out for too few labels: {self.left_out:,}")
        if self.thresholds is not None:
            cycle, geodesic = self.thresholds
            lines.append(f"- relaxed cycle: at most {cycle:g} of the source object's extent, and at least a cell (`tau_cc`)")
            lines.append(f"- bicyclic geodesic error: at most {geodesic:g} of the mesh diagonal (`tau_geo`)")
            lines.append(
                f"- of {total.candidates:,} candidates, {total.cycle:,} passed the widest cycle threshold and {total.labels:,} became "
                f"labels: {total.rejected:.1%} were rejected"
            )
        else:
            lines.append("- no evidence came with them: cosine, errors and thresholds are NaN")
        return "\n".join([lines[0], "", *lines[1:]])

    def _models(self) -> str:
        header = ["role", "model", "source", "weights", "licence", "commercial use"]
        rows = [[m.role, m.name, m.source, f"`{m.weights}`" if m.weights else "-", m.licence, m.commercial] for m in self.models]
        return table(header, rows)

    def _rejects(self) -> str:
        return table(["stage", "reason", "records"], [[stage, kind, f"{count:,}"] for stage, kind, count in self.rejects])

    def _obligations(self) -> str:
        chosen = f"The labels are under {self.licence}." if self.licence else "No licence of the labels was chosen yet."
        lines = [chosen, "What binds them besides:", ""]
        bound = [model for model in self.models if model.commercial != "yes"]
        lines += [f"- {model.name} ({model.licence}): {_OBLIGATION[model.commercial]}" for model in bound]
        if self.origin:
            lines.append("- The terms of whoever made these labels.")
        lines.append("- The images belong to their owners: their data set's terms hold for whatever is made with them.")
        return "\n".join(lines)


_OBLIGATION = {
    "no": "**non-commercial use only**; labels that were made with it should not be used commercially.",
    "with conditions": "commercial use under conditions; read the licence before publishing or selling what was made with it.",
    "unclear": "whether commercial use is allowed is unclear; ask its authors.",
}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def column_table(record: type[Record]) -> str:
    """The columns of a record as a Markdown table: name, Parquet type, shape of the array in a flattened list, meaning."""
    shapes = {f.name: f.metadata["array"].shape for f in dataclasses.fields(record) if "array" in f.metadata}
    meanings = column_meanings(record)
    rows = [[f"`{f.name}`", _type_name(f.type), _shape(shapes.get(f.name)), meanings[f.name]] for f in arrow_schema(record)]
    return table(["column", "type", "shape", "meaning"], rows)


def _type_name(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list of {_type_name(kind.value_type)}"
    return {"float": "float32", "double": "float64"}.get(str(kind), str(kind))


def _shape(shape: tuple[int, ...] | None) -> str:
    return (
        "" if shape is None else "(" + ", ".join("N" if n == -1 else str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"
    )
