"""A document's text -> the spans of its passages, with their word pieces.

A passage is filled with whole paragraphs. It is left early, when at least half full, where a section (a heading, a
page) begins. A paragraph that does not fit is cut at the end of a sentence, and only there the next passage begins one
or two sentences earlier; else at the end of a line, of a word, or anywhere. All work is local to the window of one
passage, so the time is linear in the length of the text and long lines need no special care.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from odqa import settings
from odqa.ingest.parsed import words
from odqa.ingest.token_counts import TokenCounts, inside_word
from odqa.protocols import TextTokenizer, TokenIds, TokenisedSpan
from odqa.types import Section, Span

OVERLAP_TOKENS = 64  # most tokens that two passages share where a paragraph was cut
OVERLAP_SENTENCES = 2
HEADING_TOKENS = 12  # a paragraph that short at the end of a passage is taken for the heading of the next
MAX_HEADINGS = 2
SPECIAL_TOKENS = 2  # [CLS] and [SEP]
MIN_PASSAGE_TOKENS = 8  # what must remain for the text beside the longest title
CHARACTERS_PER_TOKEN = 24  # bound of a passage's length where tokens do not bound it (one unknown word of a megabyte)

_NOT_BLANK = re.compile(r"\S")
_LINE_END = r"(?:\r\n|\r(?!\n)|[\n\v\u2028\u2029])"
_LINE = re.compile(_LINE_END)
_BLANK_LINE = re.compile(rf"{_LINE_END}[^\S\n\r\v\u2028\u2029]*{_LINE_END}|\f")  # a form feed ends a page
_CLOSING = r"""["'”’»)\]」』】）》]*"""
_SENTENCE_END = re.compile(rf"(?:[.!?…]+{_CLOSING}(?=\s)|[。！？]+{_CLOSING})")
_LINE_ENDS_SENTENCE = re.compile(rf"[.!?:;…。！？]{_CLOSING}$")
_LINE_BEGINS_BLOCK = re.compile(r"[ \t]*(?:[-*+•·–‣◦]\s|\(?(?:\d{1,3}|[A-Za-z])[.)]\s|#{1,6}\s|\||>\s)")
# A full stop after these ends no sentence; single letters (initials) do not either.
_ABBREVIATIONS = words(
    "mr mrs ms dr prof st no nos vs fig figs eq eqs al cf ca approx inc ltd co corp jr sr rev gen col sgt capt lt gov "
    "sen rep hon pres u.s u.k e.g i.e a.m p.m ph.d vol pp p ed eds jan feb mar apr jun jul aug sep sept oct nov dec "
    "dept est art sec ch ft mt bzw z.b d.h u.a"
)


class PassageChunker:
    """Cuts texts into passages of bounded length; keeps `odqa.protocols.Chunker`.

    The bound: the tokens of the passage's text by itself, plus those of the title (at most `title_tokens` of them),
    plus [CLS] and [SEP] are at most `max_tokens`. The tokenizer is assumed to split at blanks, at ASCII punctuation and
    around ideographs, as BERT's does; a passage cut anywhere else is counted by itself, and shortened if need be.
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        *,
        max_tokens: int = settings.PASSAGE_TOKENS,
        title_tokens: int = settings.TITLE_TOKENS,
    ) -> None:
        """Make a chunker.

        Args:
            tokenizer: Counts the tokens.
            max_tokens: Longest encoder input, title and special tokens included.
            title_tokens: Most tokens of the title in front of each passage; 0 for none.

        Raises:
            ValueError: The lengths leave fewer than `MIN_PASSAGE_TOKENS` tokens for a passage's text.
        """
        if title_tokens < 0:
            raise ValueError(f"title_tokens must not be negative, but is {title_tokens}")
        if max_tokens < title_tokens + SPECIAL_TOKENS + MIN_PASSAGE_TOKENS:
            raise ValueError(
                f"max_tokens={max_tokens} leaves too little beside title_tokens={title_tokens}; "
                f"give at least {title_tokens + SPECIAL_TOKENS + MIN_PASSAGE_TOKENS}"
            )
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._title_tokens = title_tokens

    def cut(self, text: str, *, title: str, sections: Sequence[Section]) -> list[TokenisedSpan]:
        """Cut a document's text into passages.

        Args:
            text: The text; blank text gives no passage.
            title: The title that will stand in front of each passage, "" for none.
            sections: The sections of the text, in order; passages prefer to begin where they begin.

        Returns:
            Spans in ascending order of start and of end, without blanks at their ends, that cover all non-blank
            characters of the text; each with the token ids of its text by itself.
        """
        title_tokens = min(len(self._tokenizer.encode(title).ids), self._title_tokens) if title else 0
        limit = self._max_tokens - SPECIAL_TOKENS - title_tokens
        starts = sorted({section.span.start for section in sections if section.span.start > 0})
        return list(_Cutter(text, limit, starts, TokenCounts(text, self._tokenizer)).passages())

    def split(self, text: str, *, title: str, sections: Sequence[Section]) -> list[Span]:
        """Return the spans of `cut` alone."""
        return [passage.span for passage in self.cut(text, title=title, sections=sections)]


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where a passage ends, and where the next one begins at the earliest."""

    end: int
    next_start: int


@dataclass(slots=True)
class _Cutter:
    """The cutting of one text: `limit` is the most tokens of a passage."""

    text: str
    limit: int
    section_starts: list[int]
    counts: TokenCounts

    def passages(self) -> Iterator[TokenisedSpan]:
        covered = 0  # everything before this is in a passage
        start = self.skip_blanks(0)
        while start < len(self.text):
            cut = self.cut(start)
            end, ids = self.shortened(start, cut.end)
            if end <= covered:  # the overlap left no room for anything new
                start = self.skip_blanks(covered)
                continue
            yield TokenisedSpan(Span(start=start, end=end), ids)
            covered = end
            following = cut.next_start if end == cut.end else end
            start = self.skip_blanks(covered)
            if following < covered and start < len(self.text):
                start = self.skip_blanks(following)

    def skip_blanks(self, position: int) -> int:
        found = _NOT_BLANK.search(self.text, position)
        return found.start() if found else len(self.text)

    def trimmed(self, start: int, end: int) -> int:
        """Return the end without the blanks before it."""
        return start + len(self.text[start:end].rstrip())

    def cut(self, start: int) -> _Cut:
        """Choose the end of the passage that begins at `start`."""
        room = self.limit * CHARACTERS_PER_TOKEN
        reach = self.counts.reach(start, self.limit, at_most=min(start + room, len(self.text)))
        half = self.counts.reach(start, self.limit // 2, at_most=min(start + room // 2, reach))
        third = self.counts.reach(start, self.limit // 3, at_most=min(start + room // 3, reach))
        place = bisect.bisect_left(self.section_starts, max(half, start + 1))
        section = self.section_starts[place] if place < len(self.section_starts) else len(self.text)
        if section < reach and not (reach == len(self.text) and self.counts.count(section, reach) < self.limit // 8):
            return self.plain(start, section)
        if reach == len(self.text):
            return self.plain(start, reach)
        paragraphs = self.paragraph_starts(start, reach, half=half)
        if paragraphs and paragraphs[-1] >= max(third, start + 1):
            return self.plain(start, self.before_heading(paragraphs, least=third))
        return self.cut_paragraph(start, reach, paragraph=paragraphs[-1] if paragraphs else start, least=third)

    def plain(self, start: int, end: int) -> _Cut:
        end = self.trimmed(start, end)
        return _Cut(end=end, next_start=end)

    def before_heading(self, paragraphs: list[int], *, least: int) -> int:
        """Return the last paragraph's begin, or that of the very short ones before it: headings of what follows."""
        chosen = paragraphs[-1]
        for earlier in reversed(paragraphs[-1 - MAX_HEADINGS : -1]):
            if earlier <= least or self.counts.count(earlier, chosen) > HEADING_TOKENS:
                break
            chosen = earlier
        return chosen

    def paragraph_starts(self, start: int, reach: int, *, half: int) -> list[int]:
        """Return where paragraphs begin within `(start, reach]`, in order.

        A line end is a weak end of a paragraph, if the line ends a sentence or the next one begins a block (an item, a
        heading, a row). The weak ones count only if none of the others makes the passage half full.
        """
        text = self.text
        strong = [found.end() for found in _BLANK_LINE.finditer(text, start, reach)]
        low = bisect.bisect_right(self.section_starts, start)
        strong += self.section_starts[low : bisect.bisect_right(self.section_starts, reach)]
        if strong and max(strong) >= half:
            return sorted(strong)
        weak = []
        begin = start
        for line in _LINE.finditer(text, start, reach):
            ends = _LINE_ENDS_SENTENCE.search(text[max(begin, line.start() - 16) : line.start()].rstrip())
            if ends or _LINE_BEGINS_BLOCK.match(text, line.end()):
                weak.append(line.end())
            begin = line.end()
        return sorted(strong + weak)

    def cut_paragraph(self, start: int, reach: int, *, paragraph: int, least: int) -> _Cut:
        """Cut inside the paragraph that begins at `paragraph`: after a sentence, a line, a word, or anywhere."""
        sentences = list(self.sentence_ends(start, reach))
        if sentences and sentences[-1] > least:
            end = sentences[-1]
            return _Cut(end=end, next_start=self.overlap_start(sentences, paragraph=paragraph))
        lines = [found.start() for found in _LINE.finditer(self.text, start, reach)]
        for end in (lines[-1] if lines else start, self.last_blank(start, reach)):
            if end > least:
                return self.plain(start, end)
        return self.plain(start, reach)  # one word takes most of the room

    def last_blank(self, start: int, reach: int) -> int:
        """Return where the last run of blanks that ends within `(start, reach]` begins, `start` if there is none."""
        if self.text[reach - 1].isspace() or self.text[reach].isspace():
            return self.trimmed(start, reach)
        parts = self.text[start:reach].rsplit(maxsplit=1)
        return start + len(parts[0]) if len(parts) == 2 else start

    def sentence_ends(self, start: int, reach: int) -> Iterator[int]:
        """Yield the ends of sentences within `(start, reach]`."""
        for found in _SENTENCE_END.finditer(self.text, start, min(reach + 1, len(self.text))):
            if found.end() <= reach and not self.abbreviated(start, found):
                yield found.end()

    def abbreviated(self, start: int, found: re.Match[str]) -> bool:
        """Tell whether a full stop belongs to an abbreviation, or goes on in lower case."""
        if found[0] != ".":
            return False
        before = self.text[max(start, found.start() - 12) : found.start()].split()
        word = before[-1].lstrip("([\"'“‘") if before else ""
        following = _NOT_BLANK.search(self.text, found.end(), found.end() + 3)
        if following and following[0].islower():
            return True
        return (len(word) == 1 and word.isalpha()) or word.lower() in _ABBREVIATIONS

    def overlap_start(self, sentences: list[int], *, paragraph: int) -> int:
        """Return where the last one or two sentences begin, if they are short enough and in the cut paragraph."""
        end = chosen = sentences[-1]
        most = min(OVERLAP_TOKENS, self.limit // 4)
        begins = [paragraph, *(sentence for sentence in sentences[:-1] if sentence > paragraph)]
        for begin in reversed(begins[-OVERLAP_SENTENCES:]):
            if begin < end and self.counts.count(begin, end) <= most:
                chosen = begin
        return chosen

    def shortened(self, start: int, end: int) -> tuple[int, TokenIds]:
        """Return the end, brought forward until the text by itself has at most `limit` tokens, and those tokens."""
        if not (inside_word(self.text, start) or inside_word(self.text, end) or self.counts.seam_within(start, end)):
            return end, self.counts.ids_within(start, end)
        while True:
            encoding = self.counts.tokenizer.encode(self.text[start:end])
            if len(encoding.ids) <= self.limit or end <= start + 1:
                return end, np.array(encoding.ids, np.int32)
            end = min(end - 1, start + max(1, encoding.offsets[self.limit][0]))
            end = max(start + 1, self.trimmed(start, end))
