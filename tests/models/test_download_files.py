"""Downloads and the disk, and files without a published checksum."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import BinaryIO

import pytest
from download_server import Server, Step
from pulls import HUGGING, NAME, WEIGHTS, Pulled, hugging_face_spec, zoo_spec

from odqa.errors import ModelError
from odqa.models import download, fetch
from odqa.models.download import PullReport, recorded
from odqa.models.fetch import AbsentFileError

# ---- the disk ------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_said_and_what_came_stays(weights: Pulled, monkeypatch: pytest.MonkeyPatch) -> None:
    write = fetch._Part.write

    def full(part: fetch._Part, file: BinaryIO, piece: bytes) -> None:
        class Full:
            def write(self, rest: memoryview) -> int:
                room = 120_000 - part.size
                if room <= 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return int(file.write(rest[:room]))  # a disk takes what it can first

        write(part, Full(), piece)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(fetch._Part, "write", full)
        weights.fails(r"reader\.bin\.part cannot be written: No space left on device; make room, then run the same")
    assert weights.part() == WEIGHTS[:120_000]
    weights()
    assert weights.is_whole()
    assert weights.server.asked()[-1] == ("reader.bin", "bytes=120000-")


def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(
    weights: Pulled, monkeypatch: pytest.MonkeyPatch
) -> None:
    (weights.folder / "reader.bin.part").write_bytes(WEIGHTS[:100_000])
    usage = type(download.shutil.disk_usage("."))

    def left(free: int) -> None:
        monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage(10**9, 10**9 - free, free))

    left(199_999)
    weights.fails("needs 0 MB more, .* has 0 MB left; make room, or name another folder with ODQA_MODELS_DIR")
    assert weights.server.requests == []
    left(200_000)
    weights()
    assert weights.is_whole()


def test_a_models_folder_that_cannot_be(server: Server, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file", encoding="utf-8")
    Pulled(server, tmp_path / "models", zoo_spec()).fails("ODQA_MODELS_DIR", ModelError)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / NAME).write_text("a file", encoding="utf-8")
    Pulled(server, tmp_path / "other", zoo_spec()).fails("cannot be written to: .*; set ODQA_MODELS_DIR")


# ---- files without a published checksum ----------------------------------------------------------------------------


@pytest.fixture
def hugging(server: Server, tmp_path: Path) -> Pulled:
    server.files = {f"/{NAME}/{name}": name.encode() * 100 for name in HUGGING}
    return Pulled(server, tmp_path, hugging_face_spec())


def test_what_came_first_is_recorded_and_holds_for_later(hugging: Pulled) -> None:
    report = hugging()
    place = hugging.root / ".downloads" / NAME
    assert report == PullReport(place, HUGGING, (), HUGGING)
    record = recorded(hugging.spec, environment=hugging.environment)
    assert {name: (one.size, one.checksum, one.url) for name, one in record.items()} == {
        name: (
            len(name) * 100,
            "sha256:" + hashlib.sha256(name.encode() * 100).hexdigest(),
            f"{hugging.server.url}/{NAME}/{name}",
        )
        for name in HUGGING
    }
    assert hugging() == PullReport(place, (), HUGGING, ())
    (place / "model.safetensors").unlink()  # as after its conversion
    assert hugging() == PullReport(place, ("model.safetensors",), HUGGING[:3], ())
    (place / "model.safetensors").unlink()
    hugging.server.files[f"/{NAME}/model.safetensors"] = b"model.safetensorX" * 100
    date = record["model.safetensors"].date
    hugging.fails(f"is not the right file: .*first download on {date}.*`odqa models remove {NAME}` forgets the old")
    assert not (place / "model.safetensors").exists()
    assert recorded(hugging.spec, environment=hugging.environment) == record


def test_a_file_of_unknown_size_is_whole_when_the_server_has_sent_all(hugging: Pulled) -> None:
    hugging.server.files[f"/{NAME}/model.safetensors"] = WEIGHTS
    hugging.server.steps = [Step(), Step(), Step(), Step(cut=1234), Step(cut=1000)]
    hugging()
    assert (hugging.root / ".downloads" / NAME / "model.safetensors").read_bytes() == WEIGHTS
    assert [range_ for _, range_ in hugging.server.asked()[3:]] == [None, "bytes=1234-", "bytes=2234-"]


def test_a_complete_part_of_unknown_size_is_taken_when_the_server_has_no_more(hugging: Pulled) -> None:
    place = hugging.root / ".downloads" / NAME
    place.mkdir(parents=True)
    data = hugging.server.files[f"/{NAME}/config.json"]
    url = f"{hugging.server.url}/{NAME}/config.json"
    (place / "config.json.part").write_bytes(data)
    (place / "config.json.part.json").write_text(json.dumps({"url": url, "version": '"1"'}), encoding="utf-8")
    hugging()
    assert (place / "config.json").read_bytes() == data
    assert hugging.server.asked()[:2] == [("config.json", f"bytes={len(data)}-"), ("tokenizer_config.json", None)]


def test_weights_may_have_another_name_and_settings_may_be_absent(hugging: Pulled) -> None:
    files = hugging.server.files
    del files[f"/{NAME}/tokenizer_config.json"]
    files[f"/{NAME}/pytorch_model.bin"] = files.pop(f"/{NAME}/model.safetensors")
    assert hugging().fetched == ("config.json", "vocab.txt", "pytorch_model.bin")
    # What is known by its record comes before what would be trusted unseen.
    files[f"/{NAME}/model.safetensors"] = b"new"
    (hugging.root / ".downloads" / NAME / "pytorch_model.bin").unlink()
    assert hugging().fetched == ("pytorch_model.bin",)
    hugging.root = hugging.root / "elsewhere"
    del files[f"/{NAME}/model.safetensors"], files[f"/{NAME}/pytorch_model.bin"]
    hugging.fails(r"pytorch_model\.bin was answered with HTTP 404", AbsentFileError)
    files.clear()
    hugging.root = hugging.root / "further"
    hugging.fails(r"config\.json was answered with HTTP 404", AbsentFileError)


@pytest.mark.parametrize("text", ["{", "[]", '{"config.json": {"size": 3}}'])
def test_a_record_that_cannot_be_read_is_no_record_to_be_forgotten_in_silence(hugging: Pulled, text: str) -> None:
    hugging()
    (hugging.root / ".downloads" / NAME / "recorded.json").write_text(text, encoding="utf-8")
    hugging.fails(f"recorded.json, cannot be read .*`odqa models remove {NAME}`", ModelError)
