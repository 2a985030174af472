"""One category of drawn objects, and its class shape, for all tests that need one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The helpers beside this file.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from scene import Scene, View

from sc3d.class_shapes.build import build_class_shape
from sc3d.class_shapes.class_shape import ClassShape


@pytest.fixture(scope="session")
def scene() -> Scene:
    """Objects whose features tell their points, with noise."""
    return Scene()


@pytest.fixture(scope="session")
def views(scene: Scene) -> list[View]:
    """Annotated images of the category."""
    return [scene.view(number) for number in range(24)]


@pytest.fixture(scope="session")
def shape(scene: Scene, views: list[View]) -> ClassShape:
    """The category's shape."""
    return build_class_shape("animal", [(view.observation, view.annotation) for view in views], scene.mirrored, points=300)
