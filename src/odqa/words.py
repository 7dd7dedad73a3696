"""Words and sentences of questions and passages, as the retriever and the reader count them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from odqa import settings

WORD = re.compile(r"\w+")
# The last mark of a sentence with what stands behind it, or a blank line. Each alternative begins with a letter of its
# own, so that the search leaps from one such letter to the next.
_SENTENCE_END = re.compile(r"\.\s+|!\s+|\?\s+|。|！|？|\n\s*\n")

# Words that say how a question is asked, not what it is about. FTS5 scores every passage that holds any word of the
# expression, so leaving these out is both faster and no worse.
STOP_WORDS = frozenset(
    """
    a about an and any are as at be been but by can could did do does done for from had has have he her him his how i if
    in into is it its me my of on or our she should so some than that the their them there these they this those to us
    was we were what when where which who whom whose why will with would you your
    """.split()
)


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, in order: runs of letters, digits and underscores."""
    return [word.lower() for word in WORD.findall(text)]


def telling(words: list[str]) -> list[str]:
    """Return the distinct words that are not stop words, in order; all distinct words where no others are there."""
    distinct = list(dict.fromkeys(words))
    return [word for word in distinct if word not in STOP_WORDS] or distinct


def stem(word: str) -> str:
    """Cut a word to its beginning: 4 to 6 letters, the last two left out.

    Most forms of a word meet, though not all: "nation" is cut to "nati", "nations" to "natio". Porter's stemmer, which
    gets those right, orders passages no better.
    """
    return word if len(word) <= 3 else word[: max(4, min(6, len(word) - 2))]


def held_stems(text: str, stems: Iterable[str]) -> set[str]:
    """Return those of some stems that words of the text have.

    The text is searched for each of them, which takes less time than to go through its words.
    """
    lowered = text.lower()
    if len(lowered) != len(text):  # a letter that becomes two, one of which may not be of a word
        return set(stems).intersection(stems_of(WORD.findall(text)))
    return {one for one in stems if _has_stem(lowered, one)}


def _has_stem(lowered: str, wanted: str) -> bool:
    at = lowered.find(wanted)
    while at >= 0:
        word = WORD.match(lowered, at)
        end = word.end() if word else at + 1
        before = lowered[at - 1 : at]
        if word and not (before.isalnum() or before == "_") and _stems[word.group()] == wanted:
            return True
        at = lowered.find(wanted, end)  # within the word that was found there is no beginning of another
    return False


class _Stems(dict[str, str]):
    """The stems of words in any case; those that were asked for last are kept, since they come up again and again."""

    def __missing__(self, word: str) -> str:
        found = stem(word[:_STEM_DEPENDS_ON].lower())
        if len(word) <= _KEPT_LETTERS:
            if len(self) >= _KEPT_WORDS:
                self.clear()
            self[word] = found
        return found


_STEM_DEPENDS_ON = 8  # letters of a word; the others only tell that it is long enough
_KEPT_LETTERS, _KEPT_WORDS = 32, 1 << 15
_stems = _Stems()


def stems_of(words: Iterable[str]) -> Iterator[str]:
    """Yield the stem of each word, of words in any case."""
    return map(_stems.__getitem__, words)


Stemmed = tuple[tuple[int, int, tuple[str, ...]], ...]

_KEPT_CHARACTERS = 4096  # a text that is longer than passages are is not kept


def stemmed_sentences(text: str) -> Stemmed:
    """Return where each sentence of a passage begins and ends, with the stems of its words; see `sentences`.

    Passages come up question after question, and within one question for the retriever and the reader: those of the
    last few dozen questions are kept, in some 3 megabytes.
    """
    return _kept_sentences(text) if len(text) <= _KEPT_CHARACTERS else _stemmed(text)


def _stemmed(text: str) -> Stemmed:
    return tuple((start, end, tuple(stems_of(words))) for start, end, words in sentences(text))


_kept_sentences = lru_cache(maxsize=1024)(_stemmed)


def sentences(text: str) -> Iterator[tuple[int, int, list[str]]]:
    """Yield where each sentence begins and ends, with its words as they stand; at least one, empty for an empty text.

    Sentences of more than `settings.SENTENCE_WORDS` words (tables, lists) are cut into parts of so many.
    """
    gaps = [(gap.start() + (text[gap.start()] != "\n"), gap.end()) for gap in _SENTENCE_END.finditer(text)]
    for start, end in zip([0, *(after for _, after in gaps)], [*(at for at, _ in gaps), len(text)], strict=True):
        words, most = WORD.findall(text, start, end), settings.SENTENCE_WORDS
        if len(words) <= most:
            yield start, end, words
            continue
        later = [word.start() for word in WORD.finditer(text, start, end)][most::most]
        for number, (first, last) in enumerate(zip([start, *later], [*later, end], strict=True)):
            yield first, last, words[number * most : (number + 1) * most]
