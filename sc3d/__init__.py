"""sc3d: geometry-verified semantic correspondence. This package is the method itself and does not import Ray."""

__version__ = "0.1.0"
