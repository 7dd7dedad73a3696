from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
import small_networks

from odqa import settings
from odqa.errors import DamagedModelError, ModelError, UnknownModelError
from odqa.models import registry

ZOO_READER = "bert-small-uncased-whole-word-masking-squad-0001"


def test_the_registry_holds_the_defaults_and_the_zoo() -> None:
    names = [spec.name for spec in registry.models()]
    assert names[:2] == [settings.DEFAULT_ENCODER, settings.DEFAULT_READER]
    assert registry.find(settings.DEFAULT_ENCODER).task == "encode"
    assert registry.find(settings.DEFAULT_ENCODER).width == 1024
    assert registry.find(settings.DEFAULT_READER).trained_no_answer
    assert not registry.find(ZOO_READER).trained_no_answer
    for spec in registry.models():
        lengths = (spec.passage_tokens, spec.window_tokens, spec.question_tokens)
        assert lengths == ((384, 0, 32) if spec.task == "encode" else (0, 384, 64))
        assert len(spec.outputs) == (1 if spec.task == "encode" else 2)
        assert all((file.url is None) == (spec.source == "bundled") for file in spec.files)


def test_zoo_files_are_as_published() -> None:
    large = registry.find("bert-large-uncased-whole-word-masking-squad-fp32-0001")
    assert large is registry.find("bert-large-uncased-whole-word-masking-squad-0001")
    weights = large.file("weights")
    assert weights.size == 1336377548
    assert weights.checksum.startswith("sha384:d42ef40059b6dd54c00436fc1ad790f0e9df6847")
    assert str(weights.url).endswith("/FP32/bert-large-uncased-whole-word-masking-squad-0001.bin")
    assert str(large.file("vocabulary").url).endswith("/bert-large-uncased-whole-word-masking-squad-0001/vocab.txt")
    assert large.published["squad_v1.1_dev_f1_percent"] == 93.21


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(UnknownModelError, match=f"'gpt'.*{settings.DEFAULT_READER}"):
        registry.find("gpt")


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo, bundled = registry.find(ZOO_READER), registry.find(settings.DEFAULT_READER)
    chosen = {"ODQA_MODELS_DIR": str(tmp_path)}
    assert registry.folder(zoo, environment=chosen) == tmp_path / ZOO_READER
    assert registry.folder(bundled, environment=chosen) == Path(registry.__file__).parent / "bundled"
    monkeypatch.setattr(sys, "platform", "linux")
    assert registry.folder(zoo, environment={"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "odqa/models" / ZOO_READER
    home = Path.home()
    assert registry.folder(zoo, environment={"XDG_CACHE_HOME": "here"}) == home / ".cache/odqa/models" / ZOO_READER
    monkeypatch.setattr(sys, "platform", "darwin")
    assert registry.folder(zoo, environment={}) == home / "Library/Caches/odqa/models" / ZOO_READER
    monkeypatch.setattr(sys, "platform", "win32")
    assert registry.folder(zoo, environment={"LOCALAPPDATA": "/local"}) == Path("/local/odqa/Cache/models") / ZOO_READER
    assert registry.folder(zoo, environment={}) == home / "AppData/Local/odqa/Cache/models" / ZOO_READER


def test_missing_files_are_named_with_their_place(tmp_path: Path) -> None:
    spec = registry.find(ZOO_READER)
    with pytest.raises(DamagedModelError) as caught:
        registry.verify(spec, environment={"ODQA_MODELS_DIR": str(tmp_path)})
    message = str(caught.value)
    assert str(tmp_path / ZOO_READER) in message
    assert all(file.name in message and str(file.url) in message for file in spec.files)


@pytest.mark.parametrize("algorithm", ["sha256", "sha384"])
def test_verify_finds_every_damage(tmp_path: Path, algorithm: str) -> None:
    spec = small_networks.reader_spec(tmp_path)
    environment = {"ODQA_MODELS_DIR": str(tmp_path)}
    path = tmp_path / spec.name / "network.bin"
    data = path.read_bytes()
    checksum = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    spec = small_networks.with_file(spec, "weights", checksum=checksum, url="https://example.org/network.bin")
    registry.verify(spec, environment=environment)
    path.write_bytes(data[:-1])
    with pytest.raises(
        DamagedModelError, match=rf"network\.bin has {len(data) - 1} bytes instead of {len(data)}; repl"
    ):
        registry.verify(spec, environment=environment)
    changed = bytes([data[0] ^ 1]) + data[1:]
    path.write_bytes(changed)
    found = hashlib.new(algorithm, changed).hexdigest()
    with pytest.raises(DamagedModelError, match=f"checksum {algorithm}:{found} instead of {checksum}; .*example.org"):
        registry.verify(spec, environment=environment)


def test_one_checksum_depends_on_every_file(tmp_path: Path) -> None:
    spec = small_networks.reader_spec(tmp_path)
    others = {small_networks.with_file(spec, f.role, checksum="sha256:" + "0" * 64).checksum for f in spec.files}
    assert len(others | {spec.checksum}) == 4
    assert replace(spec, files=spec.files[::-1]).checksum == spec.checksum


@pytest.mark.parametrize(
    "change",
    [
        {"checksum": "md5:00"},
        {"checksum": "sha256:" + "g" * 64},
        {"name": "../reader.bin"},
        {"name": ""},
        {"role": "script"},
    ],
)
def test_files_that_cannot_be_trusted_are_refused(tmp_path: Path, change: dict[str, str]) -> None:
    file = small_networks.reader_spec(tmp_path).files[0]
    with pytest.raises(ValueError, match=r"network\.xml|plain"):
        replace(file, **change)  # type: ignore[arg-type]


def test_entries_that_cannot_be_loaded_are_refused(tmp_path: Path) -> None:
    spec = small_networks.reader_spec(tmp_path)
    for change in ({"task": "chat"}, {"files": spec.files[:2]}, {"name": "a/b"}, {"source": "web"}):
        with pytest.raises(ValueError, match=r"unknown|needs|plain"):
            replace(spec, **change)  # type: ignore[arg-type]
    with pytest.raises(FrozenInstanceError):
        spec.revision = "2"  # type: ignore[misc]
    with pytest.raises(TypeError):
        registry.models()[0].published["f1"] = 1.0  # type: ignore[index]


def test_a_damaged_registry_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "registry.json"
    entries = json.loads(registry.REGISTRY.read_text(encoding="utf-8"))
    assert registry.read_registry(registry.REGISTRY) == registry.models()
    for damaged in ("[", "[{}]", json.dumps([entries[0] | {"task": "chat"}]), json.dumps([entries[0], entries[0]])):
        path.write_text(damaged, encoding="utf-8")
        with pytest.raises(ModelError, match=r"registry\.json"):
            registry.read_registry(path)
    with pytest.raises(ModelError, match=r"none\.json"):
        registry.read_registry(tmp_path / "none.json")


def test_listing_models_imports_nothing_heavy() -> None:
    code = (
        "import sys; from odqa.models import registry; registry.models();"
        "print([m for m in ('numpy', 'openvino', 'tokenizers') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
