"""A procedural benchmark in the layout of SPair-71k: toys whose mesh, camera and keypoints are known exactly.

Real benchmarks cannot be shipped; this one is drawn from a seed. Its categories have symmetric and repeated parts, and paint that is
the same on both sides, so that appearance alone confuses them.
"""

from sc3d.datasets.toys.catalogue import CATEGORIES
from sc3d.datasets.toys.config import ToysConfig
from sc3d.datasets.toys.generate import generate_toys
from sc3d.datasets.toys.truth import ToyTruth, toy_truth

__all__ = ["CATEGORIES", "ToyTruth", "ToysConfig", "generate_toys", "toy_truth"]
