"""Ray's token is for its owner's eyes only, and exactly where Ray looks for it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.token import keep_token_private

CODE = "from cluster.token import keep_token_private; keep_token_private(make=True)"


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / ".ray" / "auth_token"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_token_that_is_made_is_private_and_kept(token: Path) -> None:
    before = os.umask(0)
    try:
        keep_token_private(make=True)
    finally:
        os.umask(before)
    text = token.read_text()
    assert (mode(token), mode(token.parent), len(text)) == (0o600, 0o700, 64)
    keep_token_private(make=True)
    assert token.read_text() == text
    assert list(token.parent.iterdir()) == [token]


def test_one_that_is_there_is_closed_and_never_opened(token: Path) -> None:
    token.parent.mkdir()
    token.write_text("there already")
    for wide, narrow in ((0o644, 0o600), (0o666, 0o600), (0o400, 0o400), (0o440, 0o400)):
        token.chmod(wide)
        keep_token_private(make=False)
        assert mode(token) == narrow
    assert token.read_text() == "there already"


def test_nothing_is_made_for_a_cluster_or_where_the_token_is_elsewhere(token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_token_private(make=False)
    for name, value in (("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN", "a"), ("RAY_AUTH_TOKEN_PATH", "/nowhere")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            keep_token_private(make=True)
    assert not token.parent.exists()


def test_processes_that_start_at_once_agree_on_one_token(token: Path) -> None:
    code = f"{CODE}; from pathlib import Path; print((Path.home() / '.ray/auth_token').read_text())"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(6)]
    seen = {process.communicate(timeout=60)[0] for process in started}
    assert len(seen) == 1
    assert len(seen.pop().strip()) == 64


def test_ray_takes_it(token: Path, tmp_path: Path) -> None:
    keep_token_private(make=True)
    code = "from ray._raylet import AuthenticationTokenLoader as T; print(T.instance().has_token(ignore_auth_mode=True))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "HOME": str(tmp_path)})
    assert done.stdout.strip() == "True", done.stderr
