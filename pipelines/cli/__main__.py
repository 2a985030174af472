"""``python -m pipelines.cli`` is ``sc3d``."""

from pipelines.cli import main

main()
