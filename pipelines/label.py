"""``python -m pipelines.label`` is ``sc3d label``, under the name that jobs were submitted with before."""

from __future__ import annotations

import sys

from pipelines.cli import main

if __name__ == "__main__":
    main(["label", *sys.argv[1:]])
