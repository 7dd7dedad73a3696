"""Models put in and taken out: pulled, converted, imported, removed; what is here is never half there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import small_networks
from download_server import Server, running
from tiny_bert import write_folder

from odqa.errors import DownloadError, MissingModelError, ModelError, UnknownModelError
from odqa.models import convert, manage, registry
from odqa.models.download import PullProgress, recorded
from odqa.models.lock import model_lock
from odqa.models.opening import open_model

CASED = "bert-large-cased-whole-word-masking-finetuned-squad"
ZOO = "bert-small-uncased-whole-word-masking-squad-0001"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"ODQA_MODELS_DIR": str(tmp_path / "models")}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "source")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, source: Path) -> Iterator[Server]:
    """A mirror that holds a small network under the name of a large one."""
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    with running() as found:
        found.files = {f"/{CASED}/{path.name}": path.read_bytes() for path in source.iterdir()}
        yield found


def tree(root: Path) -> set[str]:
    """All files but locks and compiled networks."""
    paths = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if path.parts[0] not in (".locks", ".compiled")}


CONVERTED = {"model.json", "network.xml", "network.bin", "vocab.txt"}

# ---- pull and convert ----------------------------------------------------------------------------------------------


def test_a_hugging_face_system_is_fetched_and_converted(
    server: Server, environment: dict[str, str], tmp_path: Path
) -> None:
    seen: list[PullProgress] = []
    done = manage.install(CASED, base_url=server.url, progress=seen.append, environment=environment)
    fetched = ("config.json", "vocab.txt", "model.safetensors")
    assert done == manage.Installed(CASED, tmp_path / "models" / CASED, fetched, fetched)
    assert seen[-1].note == "converting it to OpenVINO's form, fp16"
    spec = registry.find(CASED, environment=environment)
    assert (spec.form, spec.lower_case, spec.licence) == ("ir", False, "Apache-2.0")
    assert "float16" in spec.architecture
    registry.verify(spec, environment=environment)
    open_model(spec, environment=environment)
    record = f".downloads/{CASED}/recorded.json"
    assert tree(tmp_path / "models") == {record, *(f"{CASED}/{name}" for name in CONVERTED)}
    assert recorded(registry.find(CASED), environment=environment).keys() == set(fetched)


def test_what_is_whole_is_not_fetched_again(server: Server, environment: dict[str, str]) -> None:
    manage.install(CASED, base_url=server.url, environment=environment)
    asked = len(server.requests)
    assert manage.install(CASED, base_url=server.url, environment=environment).fetched == ()
    assert len(server.requests) == asked


def test_another_precision_replaces_it(server: Server, environment: dict[str, str], tmp_path: Path) -> None:
    manage.install(CASED, base_url=server.url, environment=environment)
    half = registry.find(CASED, environment=environment)
    manage.install(CASED, base_url=server.url, precision="fp32", environment=environment)
    whole = registry.find(CASED, environment=environment)
    assert "float32" in whole.architecture
    assert (whole.size or 0) > (half.size or 0)
    registry.verify(whole, environment=environment)
    assert not any((tmp_path / "models" / name / CASED).exists() for name in (".removed", ".converting"))


def test_a_damaged_conversion_is_made_anew_from_what_was_recorded(
    server: Server, environment: dict[str, str], tmp_path: Path, source: Path
) -> None:
    manage.install(CASED, base_url=server.url, environment=environment)
    place = tmp_path / "models" / CASED
    checksum = registry.find(CASED, environment=environment).checksum
    for damage in ("network.bin", "model.json"):
        (place / damage).write_bytes(b"{")
        done = manage.install(CASED, base_url=server.url, environment=environment)
        assert (done.fetched, done.trusted) == (("config.json", "vocab.txt", "model.safetensors"), ())
        assert registry.find(CASED, environment=environment).checksum == checksum
    (place / "network.bin").unlink()
    server.files[f"/{CASED}/model.safetensors"] = (
        write_folder(source / "other", seed=1) / "model.safetensors"
    ).read_bytes()
    with pytest.raises(DownloadError, match="record of its first download"):
        manage.install(CASED, base_url=server.url, environment=environment)
    manage.remove(CASED, environment=environment)  # which forgets the record, as the message says
    assert manage.install(CASED, base_url=server.url, environment=environment).trusted[-1] == "model.safetensors"


def test_what_cannot_be_converted_stays_fetched_and_is_no_model(
    server: Server, environment: dict[str, str], tmp_path: Path
) -> None:
    config = server.files[f"/{CASED}/config.json"]
    server.files[f"/{CASED}/config.json"] = config.replace(b'"bert"', b'"gpt2"').replace(b"BertFor", b"GPT2For")
    with pytest.raises(ModelError, match="GPT2For"):
        manage.install(CASED, base_url=server.url, environment=environment)
    assert not (tmp_path / "models" / CASED).exists()
    with pytest.raises(MissingModelError):
        registry.verify(registry.find(CASED, environment=environment), environment=environment)
    asked = len(server.requests)
    with pytest.raises(ModelError, match="GPT2For"):
        manage.install(CASED, base_url=server.url, environment=environment)
    assert [name for name, _ in server.asked()[asked:]] == ["tokenizer_config.json"]  # which may come to be


def test_what_a_model_cannot_have_is_refused_before_anything_is_done(
    server: Server, environment: dict[str, str], tmp_path: Path
) -> None:
    def refuses(kind: type[Exception], match: str, name: str, **more: object) -> None:
        with pytest.raises(kind, match=match):
            manage.install(name, **{"base_url": server.url, "environment": environment, **more})  # type: ignore[arg-type]

    refuses(ValueError, "one precision", ZOO, precision="fp16")
    refuses(ValueError, "int8 needs texts", CASED, precision="int8")
    refuses(ValueError, "only int8", CASED, calibration_texts=["a"])
    refuses(ValueError, "not an address", CASED, base_url="mirror")
    refuses(UnknownModelError, "'gpt'", "gpt")
    refuses(ModelError, "in the package; there is nothing to pull", "odqa-reader-small-int8")
    assert server.requests == []
    assert tree(tmp_path / "models") == set()


# ---- import --------------------------------------------------------------------------------------------------------


def test_a_folder_is_imported_under_a_name(source: Path, environment: dict[str, str], tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    spec = manage.import_folder(source, name="mine", environment=environment)
    assert (spec.name, spec.source, spec.task, spec.form) == ("mine", "local", "read", "ir")
    assert spec == registry.find("mine", environment=environment)
    open_model(spec, environment=environment)
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before
    assert tree(tmp_path / "models") == {f"mine/{name}" for name in CONVERTED}


def test_names_that_cannot_be_imported(source: Path, environment: dict[str, str], tmp_path: Path) -> None:
    def refuses(kind: type[Exception], match: str, name: str, path: Path = source) -> None:
        with pytest.raises(kind, match=match):
            manage.import_folder(path, name=name, environment=environment)

    for name in ("odqa-reader-small-int8", CASED, ZOO, "bert-large-uncased-whole-word-masking-squad-fp32-0001"):
        refuses(ModelError, "a model that odqa knows; choose another", name)
    for name in ("", "../mine", "a/b", ".mine", "my model", "-x"):
        refuses(ValueError, "cannot be a name", name)
    refuses(ModelError, "is not a folder", "mine", tmp_path / "nowhere")
    assert not (tmp_path / "models").exists()
    manage.import_folder(source, name="mine", environment=environment)
    refuses(ModelError, "there already; choose another name, or `odqa models remove mine` first", "mine")
    (tmp_path / "models" / "stray").mkdir()
    refuses(ModelError, "there already; choose another name, or move that away first", "stray")


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_an_import_that_fails_leaves_nothing(
    source: Path, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "models" / ".converting" / "mine"  # by a process that was killed
    left.mkdir(parents=True)
    (left / "network.bin").write_bytes(b"half")
    (source / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="safetensors"):
        manage.import_folder(source, name="mine", environment=environment)
    assert tree(tmp_path / "models") == set()
    monkeypatch.setattr(convert, "import_model", interrupted)
    with pytest.raises(KeyboardInterrupt):
        manage.import_folder(source, name="mine", environment=environment)
    assert tree(tmp_path / "models") == set()


# ---- remove --------------------------------------------------------------------------------------------------------


def test_an_imported_model_is_removed_whole(source: Path, environment: dict[str, str], tmp_path: Path) -> None:
    spec = manage.import_folder(source, name="mine", environment=environment)
    size = (spec.size or 0) + (tmp_path / "models" / "mine" / "model.json").stat().st_size
    removed = manage.remove("mine", environment=environment)
    assert removed == manage.Removed("mine", tmp_path / "models" / "mine", size)
    assert tree(tmp_path / "models") == set()
    with pytest.raises(UnknownModelError, match="'mine'"):
        manage.remove("mine", environment=environment)


def test_a_model_whose_entry_is_damaged_can_be_removed(environment: dict[str, str], tmp_path: Path) -> None:
    place = tmp_path / "models" / "mine"
    place.mkdir(parents=True)
    (place / "model.json").write_text("{", encoding="utf-8")
    manage.remove("mine", environment=environment)
    assert not place.exists()


def test_a_pulled_model_is_removed_with_what_broke_off(environment: dict[str, str], tmp_path: Path) -> None:
    place = tmp_path / "models" / ZOO
    place.mkdir(parents=True)
    (place / f"{ZOO}.bin.part").write_bytes(bytes(1000))
    assert manage.remove(ZOO, environment=environment).size_bytes == 1000
    assert not place.exists()
    with pytest.raises(ModelError, match="is not here; there is nothing to remove"):
        manage.remove(ZOO, environment=environment)


def test_what_is_not_ours_is_not_removed(environment: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is in the package and cannot be removed"):
        manage.remove("odqa-encoder-small-int8", environment=environment)
    (tmp_path / "models" / "notes").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for name in ("notes", "../outside", ".", "..", ""):
        with pytest.raises(UnknownModelError):
            manage.remove(name, environment=environment)
    assert (tmp_path / "outside").exists()
    assert (tmp_path / "models" / "notes").exists()


def test_a_folder_that_is_a_link_is_unlinked_only(environment: dict[str, str], tmp_path: Path) -> None:
    spec = replace(small_networks.reader_spec(tmp_path / "elsewhere"), name=ZOO)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / ZOO).symlink_to(tmp_path / "elsewhere" / "small-reader")
    manage.remove(spec.name, environment=environment)
    assert not (tmp_path / "models" / ZOO).exists()
    assert (tmp_path / "elsewhere" / "small-reader" / "network.bin").exists()


# ---- the lock ------------------------------------------------------------------------------------------------------


def test_a_model_is_locked_while_it_is_worked_on(environment: dict[str, str]) -> None:
    calls: list[str] = []

    class Impatient(Exception):  # noqa: N818
        pass

    def waiting() -> None:
        calls.append("waiting")
        raise Impatient

    with (
        model_lock("a", environment=environment),
        model_lock("b", environment=environment, waiting=waiting),
        pytest.raises(Impatient),
        model_lock("a", environment=environment, waiting=waiting),
    ):
        pass
    with model_lock("a", environment=environment, waiting=waiting):
        assert calls == ["waiting"]
