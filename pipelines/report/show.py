"""``sc3d show``: one pair with all its evidence, as a page or a picture; and the pairs of a run that are worth a look."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipelines.report.view import RunView, view_run
from sc3d.class_shapes.carry import AlignedImage
from sc3d.config import RunConfig
from sc3d.console import PlainConsole
from sc3d.errors import ConfigError, InputError, StoreError, UpstreamError
from sc3d.geometry.camera import yaw_rotation
from sc3d.images import decode_mask
from sc3d.pair_ids import partial_ends
from sc3d.records import Pair
from sc3d.report.evidence import PairEvidence, Shown, evidence_page, gather_evidence
from sc3d.shards import shard_name
from sc3d.store import RunFolder

FOLDER = "report/pairs"
ENDINGS = (".html", ".png")
LISTED = 4
_CLOSE = 5
_COMPARED = 2000
_LONGEST_NAME = 200


def run(config: RunConfig, pair_id: str, out: str | Path | None = None) -> str:
    """Write the page or the picture of one pair of a run and return where it is.

    Args:
        pair_id: source id ~ target id, of a pair in the run's manifest.
        out: a local ``.html`` or ``.png`` file; ``None`` writes the page to ``report/pairs/`` of the run folder.

    Raises:
        ConfigError: ``out`` has another ending.
        InputError: the run has no such pair; the message names some whose ids are close.
        UpstreamError: one of the images was rejected or not described yet.
        StoreError: the folder holds no run, or the file cannot be written.
    """
    target = _checked_out(out)
    view = view_run(config)
    evidence = gather(view, _find(view, pair_id))
    if target is None:
        name = pair_id if len(pair_id) <= _LONGEST_NAME else shard_name([pair_id])
        file = f"{FOLDER}/{name}.html"
        view.run.write_bytes(file, evidence_page(evidence).encode())
        return f"{view.run.uri}/{file}"
    data = _picture(evidence) if target.suffix.lower() == ".png" else evidence_page(evidence).encode()
    RunFolder(target.parent).write_bytes(target.name, data)
    return str(target)


def _picture(evidence: PairEvidence) -> bytes:
    # Here, since matplotlib takes half a second that a page does not need.
    from sc3d.report.evidence_picture import evidence_picture

    return evidence_picture(evidence)


def gather(view: RunView, pair: Pair) -> PairEvidence:
    """The evidence of a pair, with the photos, masks and posed meshes that it is shown on."""
    ids = list(dict.fromkeys((pair.source_id, pair.target_id)))
    described = {image_id: view.described.get(image_id) for image_id in ids}
    reconstructions, orientations = view.reconstructions.read(ids), view.orientations.read(ids)
    shown = {}
    for image_id in ids:
        if image_id not in reconstructions or image_id not in orientations:
            raise UpstreamError(f"image {image_id} has features, but its reconstruction is gone; run: {view.command('label')}")
        one, box = reconstructions[image_id], described[image_id].letterbox
        shown[image_id] = Shown(
            described=described[image_id],
            photo=view.photo(image_id, box.width, box.height),
            mask=decode_mask(one.mask),
            faces=one.faces,
            rotation=one.rotation @ yaw_rotation(orientations[image_id].turn).T,
        )
    return gather_evidence(pair, shown[pair.source_id], shown[pair.target_id], view.config.label, _aligned(view, pair))


def _aligned(view: RunView, pair: Pair) -> tuple[AlignedImage, AlignedImage] | None:
    """Both images with a class shape in them, if one was fitted to both."""
    for fits, images in view.fitted:
        if pair.source_id in fits and pair.target_id in fits:
            return images.both(pair)
    return None


def print_pairs(config: RunConfig, console: PlainConsole | None = None) -> None:
    """Print some pairs of a run with their counts, so that a person finds one to look at.

    Raises:
        StoreError: the folder holds no run.
    """
    console = console or PlainConsole()
    view = view_run(config)
    counts = view.counts
    if not len(counts["pair_id"]):
        missing = view.no_pairs()
        console.print(f"{missing.text} {missing.command}", soft_wrap=True)
        return
    kept = counts.get("n_kept", counts["n_cycle"])
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("pair", overflow="fold")
    for name in ("candidates", "rejected", "kept" if "n_kept" in counts else "after the cycle"):
        table.add_column(name, justify="right", no_wrap=True)
    for title, rows in choose_listed(counts["n_candidates"], kept, LISTED):
        table.add_section()
        table.add_row(title, style="bold")
        for i in rows:
            numbers = (counts["n_candidates"][i], counts["n_candidates"][i] - kept[i], kept[i])
            table.add_row(f"  {counts['pair_id'][i]!s}", *(f"{int(n):,}" for n in numbers))
    console.print(table)
    example = str(counts["pair_id"][choose_listed(counts["n_candidates"], kept, 1)[0][1][0]])
    command = f"sc3d show {shlex.quote(example)} --run {shlex.quote(config.run)}"
    console.print(f"{len(kept):,} pairs in all. One of them in a browser: {command} --open", soft_wrap=True)


def choose_listed(n_candidates: np.ndarray, n_kept: np.ndarray, each: int) -> list[tuple[str, list[int]]]:
    """Titles and at most ``each`` rows of the pairs (P,) with the largest and the smallest kept share, and with the most rejected."""
    share = n_kept / np.maximum(n_candidates, 1)
    rows = np.arange(len(share))
    best, worst = np.lexsort((rows, -share)), np.lexsort((rows, -n_candidates, share))
    most = np.lexsort((rows, n_kept - n_candidates))
    chosen = (("best: the largest share is kept", best), ("worst: the smallest share", worst), ("most rejected", most))
    return [(title, [int(i) for i in order[:each]]) for title, order in chosen]


def close_ids(wanted: str, pairs: Sequence[Pair], most: int = _CLOSE) -> list[str]:
    """At most ``most`` pair ids that somebody may have meant by ``wanted``, the closest first; ``wanted`` may be one image id."""
    source, target = partial_ends(wanted)
    images = sorted({image_id for pair in pairs for image_id in (pair.source_id, pair.target_id)})
    near = [
        {text, *get_close_matches(text, images, 10, 0.6), *(i for i in images if text and text in i)} for text in (source, target)
    ]

    def fits(pair: Pair) -> int:
        straight = (pair.source_id in near[0]) + (pair.target_id in near[1])
        return max(straight, (pair.target_id in near[0]) + (pair.source_id in near[1]))

    ranked = sorted(((fits(pair), pair.pair_id) for pair in pairs), key=lambda item: (-item[0], item[1]))
    likely = [pair_id for count, pair_id in ranked[:_COMPARED] if count]
    return sorted(likely, key=lambda pair_id: -SequenceMatcher(None, wanted, pair_id).ratio())[:most]


def _find(view: RunView, pair_id: str) -> Pair:
    pairs = [*view.summary.pairs, *view.summary.annotated]
    for pair in pairs:
        if pair.pair_id == pair_id:
            return pair
    close = _listed(close_ids(pair_id, pairs))
    hint = f"close ones are {close}" if close else f"none comes close; some are listed by: {view.command('show')}"
    raise InputError(f"{view.run.uri} has no pair {pair_id!r}; {hint}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _checked_out(out: str | Path | None) -> Path | None:
    if out is None:
        return None
    path = Path(out)
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(f"--out {path}: name a file that ends in {' or '.join(ENDINGS)}")
    if not path.parent.is_dir():
        raise StoreError(f"--out {path}: the folder {path.parent} is not there")
    if path.is_dir():
        raise StoreError(f"--out {path} is a folder; name a file in it")
    return path
