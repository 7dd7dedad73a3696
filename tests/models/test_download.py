"""Downloads against a server that breaks off, stalls, changes and lies. Nothing here leaves this machine."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from download_server import Server, Step, running
from pulls import FILES, NAME, QUICK, STALLING, WEIGHTS, Pulled, interrupted, zoo_spec

from odqa.errors import ModelError
from odqa.models import registry
from odqa.models.download import PullProgress, PullReport, pull

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
    weights(patience=STALLING if "stall" in how else QUICK)
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
    weights(patience=STALLING)
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
