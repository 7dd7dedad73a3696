"""Bytes as a list of models."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fuzz_frame import Target

from odqa.errors import ModelError
from odqa.models import registry

_FOLDER = tempfile.TemporaryDirectory()
_PATH = Path(_FOLDER.name) / "registry.json"


def check(data: bytes) -> None:
    """A list of models whose files have plain names and checksums, or a ModelError."""
    _PATH.write_bytes(data)
    try:
        specs = registry.read_registry(_PATH)
    except ModelError as error:
        assert str(_PATH) in str(error)
        return
    names = [name for spec in specs for name in (spec.name, *spec.other_names)]
    assert len(set(names)) == len(names)
    for spec in specs:
        assert spec.checksum.startswith("sha256:")
        place = registry.folder(spec, environment={"ODQA_MODELS_DIR": "/models"})
        for file in spec.files:
            inside = (place / file.name).resolve()
            assert inside.parent == place.resolve()
            assert file.size >= 0
        assert place == registry.BUNDLED or place.parent == Path("/models")


TARGET = Target(
    "registry",
    check,
    lambda: [registry.REGISTRY.read_bytes()[:20_000], b"[]", b"{}", _small()],
    tokens=(
        *b'{ } [ ] " : , null true -1 1e999 NaN "name" "task" "files" "url" "sha256:"'.split(),
        *b'"../x" "/etc/passwd" "C:\\\\x" ""'.split(),
        *(b"\0", b"\xff", b"[" * 300, b"9" * 400, b'"read"', b'"encode"', b'"bundled"', b'"pull"', b'"." ', b'".."'),
    ),
    max_bytes=20_000,
)


def _small() -> bytes:
    """The first entry of the real list alone, so that an edit meets something that is looked at."""
    import json

    return json.dumps(json.loads(registry.REGISTRY.read_text(encoding="utf-8"))[:1]).encode()
