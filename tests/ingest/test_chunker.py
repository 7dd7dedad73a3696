import re
import zlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odqa.ingest import chunker, token_counts
from odqa.ingest.chunker import PassageChunker
from odqa.protocols import Encoding
from odqa.types import Section, Span

WORDS = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+|[^\w\s]")


def encoding(text: str, offsets: list[tuple[int, int]]) -> Encoding:
    """Number the pieces by their text."""
    return Encoding([zlib.crc32(text[start:end].encode()) >> 1 for start, end in offsets], offsets)


class PieceTokenizer:
    """Words in pieces of at most four characters; punctuation and ideographs by themselves."""

    def encode(self, text: str) -> Encoding:
        offsets = [
            (place, min(place + 4, word.end()))
            for word in WORDS.finditer(text)
            for place in range(word.start(), word.end(), 4)
        ]
        return encoding(text, offsets)

    def encode_batch(self, texts: list[str]) -> list[Encoding]:
        return [self.encode(text) for text in texts]


class UnknownWordTokenizer(PieceTokenizer):
    """Like WordPiece, makes one piece of a word that is too long: cutting such a word makes more pieces, not fewer."""

    def encode(self, text: str) -> Encoding:
        offsets = []
        for word in WORDS.finditer(text):
            step = 1 if word.end() - word.start() <= 30 else word.end()
            offsets += [(place, min(place + step, word.end())) for place in range(word.start(), word.end(), step)]
        return encoding(text, offsets)


def tokens(text: str) -> int:
    return len(PieceTokenizer().encode(text).ids)


def split(text: str, *, limit: int = 40, sections: tuple[int, ...] = ()) -> list[str]:
    """Split with room for `limit` tokens and without a title; `sections` are their starts."""
    made = [Section(span=Span(start=a, end=b), heading="x") for a, b in pairwise([*sections, len(text)])]
    spans = PassageChunker(PieceTokenizer(), max_tokens=limit + 2, title_tokens=0).split(text, title="", sections=made)
    return [span.of(text) for span in spans]


def check(text: str, spans: list[Span], limit: int, tokenizer: PieceTokenizer) -> None:
    covered = [False] * len(text)
    for span in spans:
        passage = span.of(text)
        assert passage
        assert passage == passage.strip()
        assert len(tokenizer.encode(passage).ids) <= limit
        covered[span.start : span.end] = [True] * len(span)
    assert all(left.start < right.start and left.end < right.end for left, right in pairwise(spans))
    assert all(done or character.isspace() for done, character in zip(covered, text, strict=True))


PIECES = [
    "a",
    "Word",
    "longerwords",
    ".",
    "! ",
    " ",
    "\n",
    "\r\n",
    "\n\n",
    "\f",
    "。",
    "東京",
    "é",
    "e\u0301",
    "\u200b",
    "😀",
    "- ",
]


@settings(max_examples=300, deadline=None)
@given(
    text=st.lists(st.sampled_from(PIECES), max_size=120).map("".join) | st.text(max_size=80),
    title=st.text(max_size=30),
    room=st.integers(8, 60),
    title_tokens=st.integers(0, 8),
    starts=st.lists(st.integers(0, 300), max_size=5, unique=True),
    block=st.integers(3, 200),
    unknown=st.booleans(),
)
def test_invariants(
    text: str, title: str, room: int, title_tokens: int, starts: list[int], block: int, unknown: bool
) -> None:
    tokenizer = UnknownWordTokenizer() if unknown else PieceTokenizer()
    edges = [*sorted(start for start in starts if start < len(text)), len(text)]
    sections = [Section(span=Span(start=a, end=b), page=1) for a, b in pairwise(edges)]
    size = token_counts.BLOCK_CHARACTERS
    token_counts.BLOCK_CHARACTERS = block
    try:
        made = PassageChunker(tokenizer, max_tokens=room + 2 + title_tokens, title_tokens=title_tokens)
        passages = made.cut(text, title=title, sections=sections)
        spans = [passage.span for passage in passages]
        assert spans == made.split(text, title=title, sections=sections)
    finally:
        token_counts.BLOCK_CHARACTERS = size
    limit = room + title_tokens - min(title_tokens, len(tokenizer.encode(title).ids))
    check(text, spans, limit, tokenizer)
    for passage in passages:
        assert passage.ids.tolist() == tokenizer.encode(passage.span.of(text)).ids


def test_the_size_of_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n\n".join(f"Paragraph {i} has some words. And then some more of them." for i in range(300))
    whole = split(text)
    monkeypatch.setattr(token_counts, "BLOCK_CHARACTERS", 97)
    assert split(text) == whole


@pytest.mark.parametrize("text", ["", " \n\t\u3000 "])
def test_blank_text_gives_no_passage(text: str) -> None:
    assert split(text) == []


def test_short_text_is_one_passage_without_its_blanks() -> None:
    assert split("\n  One.\n\nTwo. \n") == ["One.\n\nTwo."]


def paragraph(size: int, name: str = "word") -> str:
    """One sentence of `size` tokens."""
    return " ".join([name.capitalize(), *[name] * (size - 2)]) + "."


def test_whole_paragraphs_are_packed() -> None:
    a, b, c = paragraph(18, "aaaa"), paragraph(20, "bbbb"), paragraph(30, "cccc")
    assert split(f"{a}\n\n{b}\n\n{c}") == [f"{a}\n\n{b}", c]
    assert split(f"{a}\r\n \r\n{b}\r\n\r\n{c}") == [f"{a}\r\n \r\n{b}", c]
    assert split(f"{a}\n{b}\n{c}") == [f"{a}\n{b}", c]  # one paragraph a line


def test_wrapped_lines_are_one_paragraph() -> None:
    wrapped = "wrap wrap wrap wrap\n" * 7 + "wrap wrap wrap."
    assert split(f"{paragraph(16)}\n{wrapped}\nNext.") == [paragraph(16), f"{wrapped}\nNext."]


def test_a_passage_that_is_half_full_ends_where_a_section_begins() -> None:
    a, b, c = paragraph(22, "aaaa"), paragraph(10, "bbbb"), paragraph(8, "cccc")
    text = f"{a}\n{b}\n{c}"
    assert split(text) == [text]
    assert split(text, sections=(0, len(a) + 1)) == [a, f"{b}\n{c}"]
    assert split(text, sections=(0, len(f"{a}\n{b}\n"))) == [f"{a}\n{b}", c]


def test_a_heading_goes_with_what_follows_it() -> None:
    a, b = paragraph(30, "aaaa"), paragraph(30, "bbbb")
    assert split(f"{a}\n\nThe heading\n\n{b}") == [a, f"The heading\n\n{b}"]


def test_a_long_paragraph_is_cut_at_sentences_which_overlap() -> None:
    sentences = [paragraph(8, name) for name in ("aaaa", "bbbb", "cccc", "dddd", "eeee", "ffff", "gggg")]
    parts = split(" ".join(sentences))
    assert parts == [" ".join(sentences[:5]), " ".join(sentences[4:])]


def test_paragraphs_do_not_overlap() -> None:
    parts = split("\n\n".join([paragraph(30, "aaaa"), paragraph(30, "bbbb"), paragraph(30, "cccc")]))
    assert parts == [paragraph(30, "aaaa"), paragraph(30, "bbbb"), paragraph(30, "cccc")]


@pytest.mark.parametrize("stop", ["Dr. Smith", "e.g. this", "J. Smith", "Fig. 3", "No. 5 came"])
def test_abbreviations_end_no_sentence(stop: str) -> None:
    text = paragraph(20, "aaaa") + " Bbbb " + " ".join(["bbbb"] * 15) + " " + stop + " " + " ".join(["cccc"] * 20)
    assert split(text)[0] == paragraph(20, "aaaa")


def test_a_long_sentence_is_cut_at_lines_then_at_words() -> None:
    line = "word " * 9 + "word"
    assert split("\n".join([line] * 6)) == ["\n".join([line] * 4), "\n".join([line] * 2)]
    assert split("word " * 100) == [("word " * size).strip() for size in (40, 40, 20)]


def test_a_long_word_is_cut_anywhere() -> None:
    assert split("x" * 1000) == ["x" * size for size in (160,) * 6 + (40,)]


def test_ideographs_are_cut_at_their_sentence_ends() -> None:
    sentence = "東京は日本の首都。"  # nine tokens
    parts = split(sentence * 10)
    assert all(part.endswith("。") and tokens(part) <= 40 for part in parts)
    assert parts[0] == sentence * 4


def test_text_without_tokens_is_covered_and_bounded() -> None:
    text = "\u200b" * 5000
    parts = split(text)
    assert [len(part) for part in parts] == [5000] or max(map(len, parts)) <= 40 * chunker.CHARACTERS_PER_TOKEN
    assert sum(map(len, parts)) >= 5000


def test_the_title_takes_its_room() -> None:
    made = PassageChunker(PieceTokenizer(), max_tokens=42, title_tokens=10)
    text = "word " * 40
    assert [tokens(span.of(text)) for span in made.split(text, title="", sections=[])] == [40]
    assert [tokens(span.of(text)) for span in made.split(text, title="two tokens", sections=[])] == [37, 3]
    assert [tokens(span.of(text)) for span in made.split(text, title="long " * 99, sections=[])] == [30, 10]


def test_lengths_that_leave_no_room_are_refused() -> None:
    with pytest.raises(ValueError, match="give at least 42"):
        PassageChunker(PieceTokenizer(), max_tokens=41, title_tokens=32)
    with pytest.raises(ValueError, match="title_tokens must not be negative"):
        PassageChunker(PieceTokenizer(), title_tokens=-1)


def test_a_line_of_a_megabyte_is_tokenised_about_once() -> None:
    class Counting(PieceTokenizer):
        characters = 0

        def encode(self, text: str) -> Encoding:
            Counting.characters += len(text)
            return super().encode(text)

    text = "The words of this line never end, " * 30_000
    spans = PassageChunker(Counting()).split(text, title="", sections=[])
    check(text, spans, 382, PieceTokenizer())
    assert Counting.characters < 1.05 * len(text)
