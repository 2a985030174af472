"""``sc3d view`` over real connections: who is answered, what every page sends along, and what the addresses lead to."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from report_run import EVIL, Made
from run_server import Served, serving

from pipelines.view.listings import LISTINGS
from pipelines.view.server import ViewServer
from sc3d.errors import ConfigError

PLACES = ("pairs", "images", "rejects", "pair/blob-0~blob-1", "image/blob-1", "nowhere", "pairs?nothing=1")


def links_of(text: str) -> list[str]:
    return [link.replace("&amp;", "&") for link in re.findall(r'href="(?!data:)([^"]+)"', text)]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "127.0.0.1|evil.example", "[::1]", "10.0.0.1"]
)
def test_only_names_of_this_machine_are_answered(served: Served, host: str) -> None:
    assert served.get("pairs", host=host).status in (400, 403)
    assert served.get("pairs", host=host, method="HEAD").status in (400, 403)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "localhost:8888", "LOCALHOST:1"])
def test_tunnels_have_ports_of_their_own(served: Served, host: str) -> None:
    assert served.get("pairs", host=host).status == 200


def test_without_the_token_nothing_is_told(served: Served) -> None:
    token = served.server.token
    assert len(token) >= 20
    for path in ("/", "/pairs", "/x/pairs", f"/{token[:-1]}/pairs", f"/{token}x/pairs", f"/%C3%A9/{token}/pairs"):
        answer = served.get("", path=path)
        assert answer.status == 403, path
        assert "blob" not in answer.text
    assert served.get("", path=f"/{token}").headers["location"] == f"/{token}/pairs"
    assert served.get("").status == 303


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_only_reading_is_offered(served: Served, method: str) -> None:
    assert served.get("pairs", method=method).status == 501


def test_head_is_get_without_the_page(served: Served) -> None:
    whole, head = served.get("images"), served.get("images", method="HEAD")
    assert (head.status, head.data) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.data))


@pytest.mark.parametrize("place", PLACES)
def test_every_page_is_closed_to_others(served: Served, place: str) -> None:
    headers = served.get(place).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["form-action"] == "'self'"
    assert set(policy["img-src"].split()) == {"'self'", "data:"}
    scripts = policy.get("script-src", "")
    is_list = place in LISTINGS
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/=]+'" if is_list or place.startswith("pair/") else "", scripts)
    assert policy.get("connect-src") == ("'self'" if is_list else None)
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "python" not in headers["server"].lower()


def test_it_listens_on_the_loopback_interface_alone(served: Served) -> None:
    assert served.server.server_address[0] == "127.0.0.1"


def test_every_link_leads_somewhere(served: Served) -> None:
    """From the first page, wherever links lead: no page is missing, and nothing leads out of the run."""
    root = urlsplit(served.address).path
    waiting, seen = ["pairs"], set()
    while waiting:
        place = waiting.pop()
        answer = served.get(place)
        assert answer.status == 200, place
        seen.add(place)
        if answer.headers["content-type"] == "image/jpeg":
            continue
        for link in links_of(answer.text) + re.findall(r'src="(thumbnail/[^"]+)"', answer.text):
            if link.startswith("#"):
                assert f'id="{link[1:]}"' in answer.text
                continue
            parts = urlsplit(urljoin(f"http://h{root}{place}", link))
            target = parts.path.removeprefix(root) + (f"?{parts.query}" if parts.query else "")
            assert parts.netloc == "h"
            assert parts.path.startswith(root), link
            # Orders of filtered lists are many; those of the first lists are enough.
            if target not in seen and target not in waiting and (place in LISTINGS or "sort=" not in target):
                waiting.append(target)
    kinds = {place.partition("/")[0].partition("?")[0] for place in seen}
    assert kinds == {"pairs", "images", "rejects", "pair", "image", "thumbnail"}
    assert {place for place in seen if place.startswith("image/")} == {f"image/{c}-{i}" for c in ("blob", "bump") for i in range(3)}


def test_a_pair_has_its_page_with_ways_back(served: Served) -> None:
    page = served.get("pair/blob-0~blob-1?category=blob&sort=kept&order=descending&at=1").text
    assert 'id="photos"' in page
    ways = [link for link in links_of(page) if link != "#"]
    assert "../pairs?category=blob&sort=kept&order=descending" in ways
    assert {"../image/blob-0", "../image/blob-1"} <= set(ways)
    assert [link.endswith(("at=0", "at=2")) for link in ways if "at=" in link] == [True, True]


def test_an_image_shows_its_mesh_over_its_photo(served: Served) -> None:
    page = served.get("image/blob-1").text
    assert page.count('src="data:image/') >= 5
    assert "aligned, IoU" in page
    assert "turned by" in page


def test_what_was_rejected_says_why(served: Served, viewed: Made) -> None:
    for place in (f"pair/{viewed.unlike.pair_id}", "rejects", "pairs?state=rejected"):
        page = served.get(place).text
        assert "was not liked" in page, place
        assert EVIL not in page
    assert "was not liked" not in served.get("pair/blob-0~blob-1").text


@pytest.mark.parametrize(
    "place",
    [
        "pair/none~none",
        "pair/",
        "pair/..%2F..%2Frun.json",
        "image/../../run.json",
        "image/%00",
        "thumbnail/zzz",
        "thumbnail/%2Fetc%2Fpasswd",
        "run.json",
        "pairs/x",
        "static/style.css",
    ],
)
def test_what_the_run_does_not_name_is_not_there(served: Served, place: str) -> None:
    answer = served.get(place)
    assert answer.status == 404
    assert "schema_version" not in answer.text


def test_a_photo_that_is_gone_is_grey(tmp_path: Path) -> None:
    made = Made.labelled(tmp_path)
    (tmp_path / "blob-0.png").unlink()
    with serving(made.config) as found:
        answer = found.get("thumbnail/blob-0")
        assert (answer.status, answer.headers["content-type"]) == (200, "image/jpeg")
        assert "cannot be read any more" in found.get("image/blob-0").text


def test_a_taken_port_is_named(served: Served) -> None:
    with pytest.raises(ConfigError, match=r"--port \d+ cannot be used"):
        ViewServer(served.server.pages, served.server.server_address[1])


def test_half_a_request_keeps_nobody_waiting(served: Served) -> None:
    with socket.create_connection(served.server.server_address) as idle:
        idle.sendall(b"GET /")
        assert served.get("pairs").status == 200


@pytest.mark.slow
def test_the_command_prints_the_address_and_ends_with_ctrl_c(viewed: Made, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "view", viewed.config.run]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = line.removeprefix("view: ").strip()
        with urllib.request.urlopen(address, timeout=60) as answer:  # noqa: S310
            assert "blob-0" in answer.read().decode()
        process.send_signal(signal.SIGINT)
        _, problems = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in problems
