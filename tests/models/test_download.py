"""Downloads against a server that misbehaves. Nothing here leaves this machine."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from download_server import Server, Step, running

from odqa.errors import DownloadError, ModelError
from odqa.models import download, fetch, registry
from odqa.models.download import PullProgress, PullReport, pull, recorded
from odqa.models.fetch import AbsentFileError, Patience
from odqa.models.registry import ModelFile, ModelSpec

QUICK = Patience(stall_seconds=0.3, attempts=3, pause_seconds=0.01, longest_pause_seconds=0.02)
NAME = "zoo-reader"
WEIGHTS = hashlib.shake_256(b"weights").digest(300_000)
FILES = {"reader.xml": b"<net/>" * 500, "reader.bin": WEIGHTS, "vocab.txt": b"[PAD]\n[UNK]\n"}
ROLES = {"reader.xml": "network", "reader.bin": "weights", "vocab.txt": "vocabulary"}


def zoo_spec(files: Mapping[str, bytes] = FILES, *, base: str = "https://example.org/zoo/FP32") -> ModelSpec:
    made = tuple(
        ModelFile(
            name, ROLES[name], f"{base}/{name}", len(data), "sha384:" + hashlib.sha384(data).hexdigest()  # type: ignore[arg-type]
        )
        for name, data in files.items()
    )  # fmt: skip
    return ModelSpec(
        name=NAME, task="read", revision="1", description="a test's", licence="Apache-2.0", source="pull",
        architecture="none", files=made, lower_case=True, question_tokens=64, inputs=("input_ids",),
        outputs=("output_s", "output_e"), window_tokens=384,
    )  # fmt: skip


HUGGING = ("config.json", "tokenizer_config.json", "vocab.txt", "model.safetensors")


def hugging_face_spec() -> ModelSpec:
    roles = ("configuration", "settings", "vocabulary", "weights")
    files = [
        ModelFile(name, role, f"https://example.org/{name}", None, None)  # type: ignore[arg-type]
        for name, role in zip(HUGGING, roles, strict=True)
    ]
    files[3] = replace(files[3], alternatives=("pytorch_model.bin",))
    return replace(zoo_spec(), form="huggingface", files=tuple(files))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with running() as found:
        found.files = {f"/{NAME}/{name}": data for name, data in FILES.items()}
        yield found


class Pulled:
    """Pulls of one model into one folder."""

    def __init__(self, server: Server, root: Path, spec: ModelSpec) -> None:
        self.server, self.root, self.spec = server, root, spec
        self.seen: list[PullProgress] = []

    @property
    def environment(self) -> dict[str, str]:
        return {"ODQA_MODELS_DIR": str(self.root)}

    @property
    def folder(self) -> Path:
        return self.root / NAME

    def __call__(self, *, base_url: str | None = None, **more: Any) -> PullReport:
        given: dict[str, Any] = {"patience": QUICK, "progress": self.seen.append} | more
        return pull(self.spec, base_url=base_url or self.server.url, environment=self.environment, **given)

    def fails(self, match: str, kind: type[Exception] = DownloadError, **more: Any) -> str:
        with pytest.raises(kind, match=match) as caught:
            self(**more)
        return str(caught.value)

    def part(self, name: str = "reader.bin") -> bytes | None:
        path = self.folder / f"{name}.part"
        return path.read_bytes() if path.exists() else None

    def is_whole(self) -> bool:
        """All files are right, and nothing else is left."""
        registry.verify(self.spec, environment=self.environment)
        return {path.name for path in self.folder.iterdir()} == FILES.keys()


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


# ---- as it should be -----------------------------------------------------------------------------------------------


def test_a_pull_fetches_and_verifies_every_file_once(pulled: Pulled) -> None:
    report = pulled()
    assert report == PullReport(pulled.folder, tuple(FILES), (), ())
    assert pulled.is_whole()
    assert pulled.server.asked() == [(name, None) for name in FILES]
    ends = {one.file: (one.bytes_done, one.bytes_total) for one in pulled.seen}
    assert ends == {name: (len(data), len(data)) for name, data in FILES.items()}
    assert not any(one.note for one in pulled.seen)
    assert pulled() == PullReport(pulled.folder, (), tuple(FILES), ())
    assert len(pulled.server.requests) == 3


def test_without_a_mirror_the_address_of_the_file_is_asked(server: Server, tmp_path: Path) -> None:
    spec = zoo_spec(base=f"{server.url}/{NAME}")
    pull(spec, environment={"ODQA_MODELS_DIR": str(tmp_path)})
    registry.verify(spec, environment={"ODQA_MODELS_DIR": str(tmp_path)})


def test_damaged_and_missing_files_are_fetched_again_and_no_others(pulled: Pulled) -> None:
    pulled()
    (pulled.folder / "vocab.txt").unlink()
    (pulled.folder / "reader.bin").write_bytes(bytes([WEIGHTS[0] ^ 1]) + WEIGHTS[1:])
    pulled.server.requests.clear()
    assert pulled().fetched == ("reader.bin", "vocab.txt")
    assert pulled.is_whole()
    assert pulled.server.asked() == [("reader.bin", None), ("vocab.txt", None)]


@pytest.mark.parametrize("source", ["bundled", "local"])
def test_only_models_to_be_pulled_are(pulled: Pulled, source: str) -> None:
    pulled.spec = replace(pulled.spec, source=source)  # type: ignore[arg-type]
    pulled.fails("nothing to pull", ModelError)
    assert pulled.server.requests == []


# ---- breaks and stalls ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, {"reset": True}, {"stall": True}])
def test_a_broken_download_goes_on_where_it_stopped(weights: Pulled, how: dict[str, bool]) -> None:
    server = weights.server
    server.steps = [Step(cut=100_000, **how), Step(cut=50_000, **how)]  # type: ignore[arg-type]
    weights()
    assert weights.is_whole()
    first, second, third = server.requests
    assert first.range is None
    had = [int(str(one.range)[6:-1]) for one in (second, third)]
    if not how.get("reset"):  # a reset may throw away what is on its way
        assert had == [100_000, 150_000]
        assert server.sent() == len(WEIGHTS)
    assert third.sent == [len(WEIGHTS) - had[1]]  # the rest, and nothing but the rest
    assert {one.if_range for one in (second, third)} == {'"1"'}
    notes = [one.note for one in weights.seen if one.note]
    assert len(notes) == 2
    assert all("; attempt 2 of 3 in 0 s" in note for note in notes)  # each got further, so each is the first failure


def test_a_server_that_does_not_answer_is_asked_again(weights: Pulled) -> None:
    weights.server.steps = [Step(cut=0, stall=True, length=""), Step(status=408)]
    began = time.monotonic()
    weights()
    assert weights.is_whole()
    assert time.monotonic() - began < 5


def test_attempts_that_bring_nothing_come_to_an_end_and_what_came_stays(weights: Pulled) -> None:
    server = weights.server
    server.steps = [Step(cut=70_000), Step(cut=0), Step(cut=0)]
    message = weights.fails(r"ended after 70000 of 300000 bytes; 70000 bytes of it are here, run the same command")
    assert f"{server.url}/{NAME}/reader.bin could not be fetched" in message
    assert len(server.requests) == QUICK.attempts
    assert weights.part() == WEIGHTS[:70_000]
    assert not (weights.folder / "reader.bin").exists()
    server.requests.clear()
    weights()  # as another process would, later
    assert weights.is_whole()
    assert server.asked() == [("reader.bin", "bytes=70000-")]
    assert server.sent() == len(WEIGHTS) - 70_000


def test_a_server_that_denies_ranges_and_always_breaks_off_does_not_keep_us_for_ever(weights: Pulled) -> None:
    weights.server.steps = [Step(cut=150_000, ranges=False)] * 50
    weights.fails("ended after 150000")
    assert len(weights.server.requests) == QUICK.attempts


def test_ctrl_c_leaves_a_part_to_go_on_from(weights: Pulled) -> None:
    def press(progress: PullProgress) -> None:
        if progress.bytes_done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        weights(progress=press)
    part = weights.part()
    assert part is not None
    assert 100_000 < len(part) < len(WEIGHTS)
    assert WEIGHTS.startswith(part)
    weights()
    assert weights.is_whole()
    assert weights.server.asked()[-1] == ("reader.bin", f"bytes={len(part)}-")


def test_a_part_that_is_complete_needs_no_further_request(weights: Pulled) -> None:
    (weights.folder / "reader.bin.part").write_bytes(WEIGHTS)  # killed before it got its name
    weights()
    assert weights.is_whole()
    assert weights.server.requests == []


@pytest.mark.parametrize("left", [WEIGHTS + b"more", bytes(len(WEIGHTS))])
def test_a_part_that_cannot_be_is_not_used(weights: Pulled, left: bytes) -> None:
    (weights.folder / "reader.bin.part").write_bytes(left)
    if len(left) == len(WEIGHTS):
        weights.fails("is not the right file: it has checksum")
        assert weights.part() is None
    weights()
    assert weights.is_whole()


# ---- versions and ranges -------------------------------------------------------------------------------------------


def interrupted(pulled: Pulled) -> None:
    """Leave the first 100,000 bytes of the weights of version 1."""
    pulled.server.steps = [Step(cut=100_000)]
    pulled.fails("ended", patience=replace(QUICK, attempts=1))
    pulled.server.requests.clear()


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(weights: Pulled) -> None:
    weights.server.files[f"/{NAME}/reader.bin"] = old = bytes(reversed(WEIGHTS))
    interrupted(weights)
    assert weights.part() == old[:100_000]
    weights.server.files[f"/{NAME}/reader.bin"] = WEIGHTS
    weights.server.version = {"ETag": '"2"'}
    weights()
    assert weights.is_whole()
    assert [(one.range, one.if_range, one.sent[0]) for one in weights.server.requests] == [
        ("bytes=100000-", '"1"', len(WEIGHTS))
    ]


def test_a_server_that_ignores_the_version_is_found_out(weights: Pulled) -> None:
    weights.server.files[f"/{NAME}/reader.bin"] = bytes(reversed(WEIGHTS))
    interrupted(weights)
    weights.server.files[f"/{NAME}/reader.bin"] = WEIGHTS
    weights.server.version = {"ETag": '"2"'}
    weights.server.steps = [Step(blind=True)]
    weights()
    assert weights.is_whole()
    assert [one.range for one in weights.server.requests] == ["bytes=100000-", None]


@pytest.mark.parametrize(
    "step",
    [
        Step(ranges=False),
        Step(content_range="bytes 99999-299999/300000"),
        Step(content_range=""),
        Step(status=416, headers={"Content-Range": "bytes */5"}),
        Step(status=416),
    ],
)
def test_without_ranges_it_begins_anew(weights: Pulled, step: Step) -> None:
    interrupted(weights)
    weights.server.steps = [step]
    weights()
    assert weights.is_whole()
    if step.ranges:
        assert [one.range for one in weights.server.requests] == ["bytes=100000-", None]


@pytest.mark.parametrize(
    ("version", "if_range"),
    [
        ({"Last-Modified": "Fri, 21 Nov 2025 10:00:00 GMT"}, "Fri, 21 Nov 2025 10:00:00 GMT"),
        ({"ETag": 'W/"1"', "Last-Modified": "Fri, 21 Nov 2025 10:00:00 GMT"}, "Fri, 21 Nov 2025 10:00:00 GMT"),
        ({"ETag": 'W/"1"'}, None),
        ({}, None),
    ],
)
def test_the_rest_is_asked_for_by_what_names_the_version(
    weights: Pulled, version: dict[str, str], if_range: str | None
) -> None:
    weights.server.version = version
    interrupted(weights)
    weights()
    assert weights.is_whole()
    (request,) = weights.server.requests
    assert (request.range, request.if_range) == ("bytes=100000-" if if_range else None, if_range)


def test_bytes_of_one_source_are_not_joined_to_those_of_another(weights: Pulled) -> None:
    interrupted(weights)
    with running() as other:  # with the same ETag, as counters have
        other.files = weights.server.files
        weights(base_url=other.url)
        assert other.asked() == [("reader.bin", None)]
    assert weights.is_whole()


@pytest.mark.parametrize("notes", ["{", "[]", "{}", '{"url": 1, "version": null}'])
def test_notes_that_cannot_be_read_mean_a_new_beginning(weights: Pulled, notes: str) -> None:
    interrupted(weights)
    (weights.folder / "reader.bin.part.json").write_text(notes, encoding="utf-8")
    weights()
    assert weights.is_whole()
    assert weights.server.asked() == [("reader.bin", None)]


# ---- lies and wrong files ------------------------------------------------------------------------------------------


def test_a_wrong_file_does_not_count_and_is_removed(weights: Pulled) -> None:
    weights.server.steps = [Step(body=bytes(len(WEIGHTS)))]
    message = weights.fails("is not the right file: it has checksum sha384:.* instead of sha384:.*list of models")
    assert "--base-url" in message
    assert sorted(path.name for path in weights.folder.iterdir()) == ["reader.xml", "vocab.txt"]
    assert len(weights.server.requests) == 1  # the same again would come


@pytest.mark.parametrize("announced", ["299999", "300001", "12"])
def test_another_size_is_refused_before_anything_is_fetched(weights: Pulled, announced: str) -> None:
    interrupted(weights)
    weights.server.steps = [Step(ranges=False, length=announced)]
    weights.fails(f"has {announced} bytes instead of 300000; .*login page")
    assert weights.part() == WEIGHTS[:100_000]  # the page of a hotel is no reason to lose it
    weights()
    assert weights.is_whole()


def test_a_file_that_does_not_end_is_stopped(weights: Pulled) -> None:
    weights.server.steps = [Step(body=WEIGHTS + bytes(50_000_000), length="")]
    weights.fails("longer than 300000 bytes; it was removed")
    assert weights.part() is None
    assert weights.server.sent() < 20_000_000


def test_a_right_file_without_a_size_is_taken(weights: Pulled) -> None:
    weights.server.steps = [Step(length="")]
    weights()
    assert weights.is_whole()


def test_a_packed_body_is_refused(weights: Pulled) -> None:
    weights.server.steps = [Step(headers={"Content-Encoding": "gzip"})]
    weights.fails("comes packed")


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


# ---- several processes ---------------------------------------------------------------------------------------------

CHILD = """
import json, sys
from odqa.models.download import pull
from odqa.models.fetch import Patience
from odqa.models.registry import read_entry
spec = read_entry(json.loads(sys.argv[1]))
def show(progress):
    if progress.note or progress.bytes_done:
        print(progress.note or progress.file, flush=True)
print(len(pull(spec, base_url=sys.argv[2], progress=show, patience=Patience(stall_seconds=20)).fetched), flush=True)
"""


@pytest.fixture
def start(pulled: Pulled) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start a pull in a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        words = [sys.executable, "-c", CHILD, json.dumps(registry.entry_of(pulled.spec)), pulled.server.url]
        environment = os.environ | pulled.environment
        started.append(subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    while text not in (line := process.stdout.readline()):
        assert line, "the process ended"


def last_line(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    return out.splitlines()[-1]


def test_two_processes_fetch_a_model_once(weights: Pulled, start: Callable[[], subprocess.Popen[str]]) -> None:
    weights.server.steps = [Step(cut=100_000, stall=True)]
    first = start()
    read_until(first, "reader.bin")
    second = start()
    read_until(second, "another process is pulling it; waiting for that")
    weights.server.released.set()  # the first goes on now
    assert last_line(first) == "1"
    assert last_line(second) == "0"
    assert weights.is_whole()
    assert weights.server.asked() == [("reader.bin", None), ("reader.bin", "bytes=100000-")]


def test_the_lock_dies_with_its_process_and_the_next_goes_on(
    weights: Pulled, start: Callable[[], subprocess.Popen[str]]
) -> None:
    weights.server.steps = [Step(cut=100_000, stall=True)]
    first = start()
    read_until(first, "reader.bin")
    second = start()
    read_until(second, "waiting")
    first.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    assert last_line(second) == "1"
    assert weights.is_whole()
    assert weights.server.asked()[1][1] in [f"bytes={n}-" for n in range(4096, 100_001)]


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
