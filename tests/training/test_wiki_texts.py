"""The texts without questions that the encoder learns from. Needs the extra `training`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_windows_lie_in_one_article_and_know_their_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "training"))
    import loop
    from wiki_texts import groups_of

    def text(name: str) -> str:
        return " ".join(f"The {name} number {n} stands by the old road to the sea." for n in range(400))

    lines = [json.dumps({"title": name, "text": text(name)}) for name in ("mill", "tower", "bridge")]
    with gzip.open(tmp_path / "articles.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join([*lines, json.dumps({"title": "stub", "text": "Too short."})]))
    words = loop.plain_tokenizer()
    ids = {name: words.token_to_id(name) for name in ("mill", "tower", "bridge")}
    found = groups_of(tmp_path, count=9, without={"tower"}, seed=1)
    assert found == groups_of(tmp_path, count=9, without={"tower"}, seed=1)
    assert len(found) == 2
    for group in found:
        assert len(group.windows) == len(group.sentences) == 8
        (own,) = {name for name, number in ids.items() for row in group.windows if number in row}
        assert own != "tower"
        for window, sentence in zip(group.windows, group.sentences, strict=True):
            assert (window[0], window[-1], sentence[0], sentence[-1]) == (101, 102, 101, 102)
            assert sentence[-2] == words.token_to_id(".")
            assert 8 <= len(sentence) <= 32
            at = next((n for n in range(len(window)) if window[n : n + len(sentence) - 2] == sentence[1:-1]), None)
            assert at is not None or len(window) - 2 in {w - len(sentence) + 2 for w in (64, 128, 192, 256)}
