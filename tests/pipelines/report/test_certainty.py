"""The report says how sure each category is, and links to what is least sure."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from report_run import Made

from pipelines.report.certainty import gather_certainty, mean_gap
from pipelines.report.summary import summarise
from pipelines.stages.orient import OrientStage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.matching.cycle_precision import CyclePrecision
from sc3d.records import Registration


def section_of(page: str) -> str:
    found = re.search(r'<section id="certainty">(.*?)</section>', page, re.DOTALL)
    assert found is not None
    return found.group(1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two categories of five images; the fronts of two of them are not sure."""
    made = Made(tmp_path_factory.mktemp("sure"), images=5)
    made.manifest(held_out=True)
    made.commit(ReconstructStage, [scene.reconstruction for scene in made.scenes.values()])
    sureness = {"blob-3": 0.55, "bump-4": 0.7}
    for image_id, scene in made.scenes.items():
        likely = sureness.get(image_id, 0.97)
        posterior = np.full(4, (1 - likely) / 3, np.float32)
        posterior[scene.orientation.turn // 90] = likely
        made.scenes[image_id] = dataclasses.replace(
            scene, orientation=dataclasses.replace(scene.orientation, posterior=posterior, uncertain=likely < 0.6)
        )
    made.commit(OrientStage, [scene.orientation for scene in made.scenes.values()])
    made.describe()
    made.match()
    made.label()
    return made


def test_each_category_says_how_sure_it_is(made: Made) -> None:
    found = gather_certainty(made.config, summarise(made.config))
    blob, bump = found.rows
    assert (blob.category, bump.category) == ("blob", "bump")
    assert (blob.images, blob.sure) == (5, 4)
    assert (bump.images, bump.sure) == (5, 5)
    assert blob.posterior == pytest.approx((0.55 + 4 * 0.97) / 5)
    assert found.images == {"blob": ("blob-3", pytest.approx(0.55)), "bump": ("bump-4", pytest.approx(0.7))}
    assert blob.gap is None, "matches are verified by descriptors here"
    for row in found.rows:
        assert isinstance(row.labels, CyclePrecision)
        assert row.labels.triangles > 20, "each of ten pairs comes back by three other images"
        assert row.right is not None
        right, low, high = row.right
        assert 0 <= low <= right <= high <= 1


def test_what_is_least_sure_is_linked_and_shown(made: Made) -> None:
    page = made.page()
    section = section_of(page)
    assert "80.0" in section, "of four of five the front is known"
    assert "its front is 55 % sure" in section
    links = [unquote(link) for link in re.findall(r'href="#([^"]*)"', section)]
    assert links[:2] == ["yaw-blob-3", "yaw-bump-4"]
    assert any(link.startswith("pair-") for link in links)
    for link in links:
        assert f'id="{link}"' in page, "a link to a card that is there"


def test_too_few_triangles_are_told_below_the_table(tmp_path: Path) -> None:
    section = section_of(Made.labelled(tmp_path).page())
    assert "blob: labels are not judged; 3 triangles of images" in section
    assert section.count("<td>b") == 2
    assert "could not be shown" not in section


def test_the_gap_is_that_of_the_median_reference() -> None:
    rng = np.random.default_rng(0)
    flat = np.concatenate([rng.uniform(size=(400, 2)), np.zeros((400, 4))], axis=1)

    def lifted(*heights: float) -> Registration:
        places = [flat + np.array([0, 0, height, 0, 0, 0]) for height in heights]
        return Registration("a", "car", len(heights), np.concatenate(places).astype(np.float32))

    assert mean_gap([lifted(0, 0, 0), lifted(0.1, 0.02, 0.9)]) == pytest.approx(0.1, abs=1e-3)
    assert mean_gap([lifted(0, 0, 0), lifted(0, 0, 0.9)]) == pytest.approx(0.0, abs=1e-6)
