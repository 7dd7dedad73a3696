"""What a parser process replies, and what is refused of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from odqa.ingest import wire
from odqa.ingest.parsed import Parsed
from odqa.types import Section, Span


def test_sections_and_metadata_come_over_the_wire_as_they_were() -> None:
    parsed = Parsed(
        title="T é",
        text="text 🙂 \u2028",
        sections=(Section(Span(0, 4), page=1), Section(Span(5, 6), heading="Über")),
        metadata={"a": 1, "b": None, "c": 0.5, "d": "é", "e": True},
        missing="page 2",
    )
    assert wire.outcome(wire.to_json({"parsed": wire.parsed_fields(parsed)})) == (parsed, "")


@pytest.mark.parametrize(
    "change",
    [
        {"text": 3},
        {"title": None},
        {"missing": []},
        {"metadata": []},
        {"metadata": {"a": []}},
        {"metadata": {"a": float("nan")}},
        {"metadata": {"a": 2**63}},
        {"metadata": {"a": 10**400}},
        {"sections": 3},
        {"sections": [[0, 1, 1]]},
        {"sections": [[0, "1", 1, None]]},
        {"sections": [[0, 1, "1", None]]},
        {"sections": [[0, 1, 1, 3]]},
        {"sections": [[-1, 1, 1, None]]},
        {"sections": [[2, 1, 1, None]]},
        {"sections": [[0, 5, 1, None]]},
        {"sections": [[0, 3, 1, None], [2, 4, 2, None]]},
    ],
)
def test_a_reply_that_no_parser_makes_is_refused(change: dict[str, object]) -> None:
    fields = wire.parsed_fields(Parsed(title="", text="text")) | change
    with pytest.raises(ValueError, match=r"."):
        wire.outcome(wire.to_json({"parsed": fields}))


@pytest.mark.parametrize("reply", [b"", b"[]", b"{}", b"3", b'{"a": 1}', b'{"reason": 3}', b"[" * 100_000, b"\xff"])
def test_nonsense_is_refused(reply: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        wire.outcome(reply)


def test_a_half_of_a_character_in_a_reply_is_refused() -> None:
    fields = wire.parsed_fields(Parsed(title="", text="text"))
    for change in ({"metadata": {"a": "\ud800"}}, {"metadata": {"\ud800": 1}}):
        with pytest.raises(ValueError, match="surrogates not allowed"):
            wire.outcome(json.dumps({"parsed": fields | change}).encode())


def test_frames_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    with path.open("wb") as stream:
        wire.write(stream, b"first", b"", b"third")
    with path.open("rb") as stream:
        assert [wire.read(stream, at_most=5) for _ in range(3)] == [b"first", b"", b"third"]
        with pytest.raises(EOFError):
            wire.read(stream, at_most=5)
    with path.open("rb") as stream, pytest.raises(ValueError, match="a frame of 5 bytes, the limit is 4"):
        wire.read(stream, at_most=4)
