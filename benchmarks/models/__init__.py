"""Foundation models with random weights: records a second, memory, and the share of what the device can do.

``python -m benchmarks models``, or ``python -m benchmarks.models tiny|full``, measures; one JSON line a figure. On a GPU the models have
their published sizes, in half precision, at several batch sizes, compiled, and their convolutions in another layout; on a CPU they are
tiny, which says only that they run. ``python -m benchmarks.models count`` counts what the published sizes compute and hold, without
computing it: a CPU is enough. ``python -m benchmarks.models table`` does both and writes ``docs/models.md``. Speed does not depend on the
weights' values.
"""

from benchmarks.models.measure import run

__all__ = ["run"]
