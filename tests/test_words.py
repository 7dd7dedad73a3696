from __future__ import annotations

import re
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odqa import settings, words
from odqa.words import WORD, held_stems, sentences, stem, stemmed_sentences, stems_of

BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n\s*\n")  # said plainly


def test_sentences_with_their_places_and_words() -> None:
    assert list(sentences("One two. Three!\n\nFour")) == [
        (0, 8, ["One", "two"]),
        (9, 15, ["Three"]),
        (17, 21, ["Four"]),
    ]
    assert list(sentences("")) == [(0, 0, [])]


def test_long_sentences_are_cut_between_words() -> None:
    most = settings.SENTENCE_WORDS
    text = " ".join(f"w{n}" for n in range(2 * most + 1)) + "."
    found = list(sentences(text))
    assert [len(words) for _, _, words in found] == [most, most, 1]
    assert [words[0] for _, _, words in found] == ["w0", f"w{most}", f"w{2 * most}"]
    assert all(text[start:].startswith(words[0]) for start, _, words in found)
    assert (found[0][0], found[-1][1]) == (0, len(text))


@given(st.text(alphabet="ab .!?\n。！é\u3000", max_size=400))
def test_nothing_is_lost_but_what_stands_between_sentences(text: str) -> None:
    found = list(sentences(text))
    assert [word for _, _, words in found for word in words] == WORD.findall(text)
    assert all(WORD.findall(text[start:end]) == words for start, end, words in found)
    places = [place for start, end, _ in found for place in (start, end)]
    assert places == sorted(places)
    between = [(end, start) for (_, end, _), (start, _, _) in pairwise(found)]
    gaps = [gap.span() for gap in BETWEEN_SENTENCES.finditer(text)]
    cuts = [place for place in between if place not in gaps]  # of sentences with too many words
    assert [place for place in between if place in gaps] == gaps
    assert all(start == end for start, end in cuts)
    assert not cuts or max(len(words) for _, _, words in found) == settings.SENTENCE_WORDS


@given(st.lists(st.text(alphabet="abÉéİ_9ß", min_size=1, max_size=20)))
def test_stems_of_words_as_they_stand(words: list[str]) -> None:
    assert list(stems_of([*words, "Lighthouses"])) == [*(stem(word.lower()) for word in words), "lighth"]


@given(
    st.text(alphabet="abcÉéİi\u0307ß_9 .-\n", max_size=80),
    st.sets(st.text(alphabet="abcéi\u0307_9", min_size=1, max_size=6), max_size=6),
)
def test_stems_that_a_text_holds(text: str, asked: set[str]) -> None:
    own = set(stems_of(WORD.findall(text)))
    wanted = asked | set(list(own)[:3])
    assert held_stems(text, wanted) == wanted & own


def test_a_stem_within_a_word_is_none_of_it() -> None:
    text = "Bell-towers of Exeter; _tower, belltower and TOWN"
    assert held_stems(text, {"towe", "tower", "town", "bell", "belt", "exet", "e", "of"}) == {
        "towe",
        "town",
        "bell",
        "of",
        "exet",
    }


def test_long_words_are_not_kept() -> None:
    word = "x" * 1_000_000
    before = sys.getrefcount(word)
    assert list(stems_of([word])) == ["xxxxxx"]
    assert sys.getrefcount(word) == before


def test_no_more_words_are_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_KEPT_WORDS", 3)
    monkeypatch.setattr(words, "_stems", words._Stems())
    asked = "towers TOWER tower bells bell towers".split()
    for _ in range(2):
        assert list(stems_of(asked)) == ["towe", "towe", "towe", "bell", "bell", "towe"]
        assert len(words._stems) <= 3


@given(st.text(alphabet="ab .!?\n。É_", max_size=300), st.integers(0, 1))
def test_sentences_with_stems_the_first_time_and_the_second(text: str, longer: int) -> None:
    whole = text + longer * " Lighthouses" * 400
    expected = tuple((start, end, tuple(stems_of(words))) for start, end, words in sentences(whole))
    assert stemmed_sentences(whole) == expected
    assert stemmed_sentences(whole) == expected


def test_long_texts_are_not_kept() -> None:
    text = "x " * 100_000
    before = sys.getrefcount(text)
    assert len(stemmed_sentences(text)) == 100_000 // settings.SENTENCE_WORDS
    assert sys.getrefcount(text) == before
