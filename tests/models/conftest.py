"""What the tests of downloads begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from download_server import Server, running
from pulls import FILES, NAME, Pulled, zoo_spec


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with running() as found:
        found.files = {f"/{NAME}/{name}": data for name, data in FILES.items()}
        yield found


@pytest.fixture
def pulled(server: Server, tmp_path: Path) -> Pulled:
    return Pulled(server, tmp_path / "models", zoo_spec())


@pytest.fixture
def weights(pulled: Pulled) -> Pulled:
    """The small files are here already: what is asked for is the weights."""
    pulled.folder.mkdir(parents=True)
    for name in ("reader.xml", "vocab.txt"):
        (pulled.folder / name).write_bytes(FILES[name])
    return pulled
