"""``sc3d view`` of runs that are not ours: hostile texts wherever data can put one; and a run in a bucket."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from report_run import Made
from run_server import serving

from pipelines.folder.configuration import RUN
from pipelines.folder.manifest import IMAGES
from pipelines.stages.label import LabelStage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config_file import to_values
from sc3d.records import ImageRecord, Reject
from sc3d.store import RunFolder
from tests.pipelines.report.test_hostile_texts import EVIL, check_page


def test_pages_show_hostile_texts_and_obey_nothing(tmp_path: Path) -> None:
    folder = tmp_path / EVIL.replace("/", "|")
    folder.mkdir()
    made = Made.labelled(folder)
    made.commit(LabelStage, [], [Reject(made.unlike.pair_id, "label", EVIL, EVIL)])
    made.run.write_records(ImageRecord, IMAGES, [dataclasses.replace(one, split=EVIL) for one in made.images])
    flagged = [dataclasses.replace(scene.reconstruction, flags=(EVIL,)) for scene in made.scenes.values()]
    made.commit(ReconstructStage, flagged)
    with serving(made.config) as found:
        for place in (
            "pairs",
            "images",
            "rejects",
            f"pair/{made.unlike.pair_id}",
            "image/blob-0",
            "pairs?id=%3Cx-evil%3E",
            "pairs?%3Cx-evil%3E={{7*7}}",
        ):
            answer = found.get(place)
            if "x-evil" in answer.text:
                page = answer.text if "{{7*7}}" in answer.text else answer.text + "{{7*7}}"
                check_page(page)
        assert "x-evil" in found.get("rejects").text
        assert "x-evil" in found.get("images").text


@pytest.mark.parametrize("id_", ["<x-evil>", "a'~'b", "a~b' OR 1=1 --", "../../../etc/passwd", "~root", "%2e%2e", "a\n"])
def test_hostile_ids_are_looked_up_and_not_found(viewed: Made, id_: str) -> None:
    from urllib.parse import quote

    with serving(viewed.config, errors=False) as found:
        for kind in ("pair", "image", "thumbnail"):
            answer = found.get(f"{kind}/{quote(id_, safe='')}")
            assert answer.status == 404
            assert "<x-evil" not in answer.text


def test_a_photo_that_the_manifest_says_lies_elsewhere_is_read_as_a_photo_or_not_at_all(tmp_path: Path) -> None:
    made = Made.labelled(tmp_path)
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    places = [
        str(secret),
        "http://169.254.169.254/latest/meta-data/",
        "file:///etc/passwd",
        "/dev/zero",
        str(tmp_path),
        "ftp://host/x",
    ]
    made.run.write_records(
        ImageRecord, IMAGES, [dataclasses.replace(one, path=path) for one, path in zip(made.images, places, strict=True)]
    )
    with serving(made.config) as found:
        for image in made.images:
            answer, page = found.get(f"thumbnail/{image.image_id}"), found.get(f"image/{image.image_id}")
            assert (answer.status, answer.headers["content-type"]) == (200, "image/jpeg")
            assert b"the secret" not in answer.data
            assert "cannot be read any more" in page.text
            assert "the secret" not in page.text


def test_a_run_in_a_bucket_is_shown_through_our_own_store(viewed: Made, bucket: str) -> None:
    run = RunFolder(f"{bucket}/runs/viewed")
    for name in viewed.run.names(""):
        run.write_bytes(name, viewed.run.read_bytes(name))
    config = dataclasses.replace(viewed.config, run=run.uri)
    run.write_json(RUN, {"config": to_values(config), "counts": {}, "versions": {}})
    with serving(viewed.config) as local, serving(config) as remote:
        for place in ("pairs", "images", "rejects", "image/bump-1", "pair/blob-0~blob-1"):
            here, there = (
                re.sub(r"As the run was at [^<]*", "", one.get(place).text.replace(where, "RUN"))
                for one, where in ((local, viewed.config.run), (remote, run.uri))
            )
            assert here == there, place
