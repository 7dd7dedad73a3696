"""What servers answer, and who else stands between: redirects, proxies, mirrors."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest
from download_server import Step, running
from pulls import FILES, NAME, WEIGHTS, Pulled, interrupted

from odqa.errors import DownloadError, ModelError
from odqa.models import download, fetch, registry
from odqa.models.download import pull
from odqa.models.fetch import AbsentFileError, Patience

# ---- what servers answer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 410, 403])
def test_an_absent_file_is_said_at_once(pulled: Pulled, status: int) -> None:
    pulled.server.steps = [Step(status=status)]
    pulled.fails(rf"reader\.xml was answered with HTTP {status} .*--base-url", AbsentFileError)
    assert len(pulled.server.requests) == 1
    assert list(pulled.folder.iterdir()) == []


@pytest.mark.parametrize("status", [400, 401, 407, 501])
def test_a_refusal_is_said_at_once(pulled: Pulled, status: int) -> None:
    pulled.server.steps = [Step(status=status)]
    pulled.fails(f"HTTP {status} .*check the address and the proxy")
    assert len(pulled.server.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_passing_fault_is_waited_out(pulled: Pulled, status: int) -> None:
    pulled.server.steps = [Step(status=status, headers={"Retry-After": "3600"}), Step(status=status)]
    began = time.monotonic()
    pulled()
    assert pulled.is_whole()
    assert time.monotonic() - began < 5  # no longer than the longest pause
    pulled.server.steps = [Step(status=status)] * 9
    (pulled.folder / "vocab.txt").unlink()
    pulled.fails(f"HTTP {status} .*; try again later")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_with_the_range(weights: Pulled, status: int) -> None:
    server = weights.server
    interrupted(weights)
    server.files["/store/17"] = WEIGHTS
    server.steps = [Step(status=status, headers={"Location": "/store/17"})]
    weights()
    assert weights.is_whole()
    assert [(one.path, one.range, one.if_range) for one in server.requests] == [
        (f"/{NAME}/reader.bin", "bytes=100000-", '"1"'),
        ("/store/17", "bytes=100000-", '"1"'),
    ]


def test_redirects_that_lead_nowhere(weights: Pulled) -> None:
    weights.server.steps = [Step(status=302, headers={"Location": f"/{NAME}/reader.bin"})] * 50
    weights.fails("HTTP 302")
    weights.server.steps = [Step(status=302, headers={"Location": "file:///etc/passwd"})]
    weights.fails("HTTP 302")


def test_a_redirect_from_https_to_http_is_refused() -> None:
    request = urllib.request.Request("https://example.org/a")
    with pytest.raises(DownloadError, match=r"leads to http://example\.org/a, which is not safe"):
        fetch._Redirects().redirect_request(request, None, 302, "", None, "http://example.org/a")  # type: ignore[arg-type]


def test_a_server_that_is_not_there_is_said_at_once(pulled: Pulled) -> None:
    with running() as other:
        url = other.url
    began = time.monotonic()
    pulled.fails("the server cannot be reached .*; check the network .*--base-url", base_url=url, patience=Patience())
    assert time.monotonic() - began < 2


# ---- proxies -------------------------------------------------------------------------------------------------------


def test_proxies_of_the_environment_are_used(pulled: Pulled, monkeypatch: pytest.MonkeyPatch) -> None:
    with running() as proxy:
        mirror = "http://mirror.example/models"
        proxy.files = {f"{mirror}/{NAME}/{name}": data for name, data in FILES.items()}
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,intern.example")
        proxy.steps = [Step(cut=1000)]
        pulled(base_url=mirror)
        assert pulled.is_whole()
        assert [(one.method, one.path) for one in proxy.requests] == [
            ("GET", f"{mirror}/{NAME}/{name}") for name in ("reader.xml", *FILES)
        ]
        assert proxy.requests[1].range == "bytes=1000-"
        assert pulled.server.requests == []


def test_https_goes_through_a_tunnel_of_the_proxy(pulled: Pulled, monkeypatch: pytest.MonkeyPatch) -> None:
    with running() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        pulled.fails("Tunnel connection failed: 403 .*check the address and the proxy", base_url="https://a.example")
        assert [(one.method, one.path) for one in proxy.requests] == [("CONNECT", "a.example:443")]


def test_no_proxy_is_heeded(pulled: Pulled, monkeypatch: pytest.MonkeyPatch) -> None:
    with running() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        pulled()
        assert pulled.is_whole()
        assert proxy.requests == []


# ---- mirrors -------------------------------------------------------------------------------------------------------


def test_a_mirror_may_be_a_folder(pulled: Pulled, tmp_path: Path) -> None:
    mirror = tmp_path / "a mirror" / "models"
    (mirror / NAME).mkdir(parents=True)
    for name, data in FILES.items():
        (mirror / NAME / name).write_bytes(data)
    pulled(base_url=mirror.as_uri() + "/")
    assert pulled.is_whole()
    assert pulled.server.requests == []
    (pulled.folder / "reader.bin").unlink()
    (mirror / NAME / "reader.bin").write_bytes(WEIGHTS[:-1])
    pulled.fails("has 299999 bytes instead of 300000", base_url=mirror.as_uri())
    (mirror / NAME / "reader.bin").unlink()
    pulled.fails("there is no such file; see docs/models.md", AbsentFileError, base_url=mirror.as_uri())
    (mirror / NAME / "reader.bin").mkdir()
    pulled.fails("cannot be read: Is a directory", base_url=mirror.as_uri())


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "mirror.example/models",
        "/mnt/models",
        "ftp://mirror.example",
        "http://",
        "http:///models",
        "file://server/models",
        "https://me:secret@mirror.example",
        "https://mirror.example/models?key=1",
        "https://mirror.example/#top",
        "https://mirror.example/a b",
        "https://mirror.example/ä",
    ],
)
def test_what_is_no_mirror_is_refused(pulled: Pulled, base_url: str) -> None:
    with pytest.raises(ValueError, match=r"address|machine|%XX") as caught:
        pull(pulled.spec, base_url=base_url, environment=pulled.environment)
    assert "secret" not in str(caught.value)


def test_no_name_is_asked_for_by_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Loading, verifying and listing never open a connection."""

    def opened(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", opened)
    monkeypatch.setattr("socket.getaddrinfo", opened)
    environment = {"ODQA_MODELS_DIR": str(tmp_path)}
    for spec in registry.models(environment=environment):
        registry.is_here(spec, environment=environment)
        if spec.source == "pull":
            with pytest.raises(ModelError):
                registry.verify(spec, environment=environment)


def test_the_names_in_the_registry_make_addresses() -> None:
    for spec in registry.published():
        names: Sequence[str] = [spec.name, *(name for file in spec.files for name in (file.name, *file.alternatives))]
        assert all(urllib.request.quote(name) == name for name in names)
        for file in spec.files:
            download.check_base_url(file.url)
            assert file.url is None or file.url.endswith("/" + file.name)
