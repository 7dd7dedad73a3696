"""Which tokens stand between two positions of a text, with each part of the text tokenised once."""

from __future__ import annotations

import string
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from odqa.protocols import TextTokenizer, TokenIds

BLOCK_CHARACTERS = 64 * 1024  # tokenised at once: bounds the memory for documents of any length

_SEPARATORS = frozenset(" \t\n\r\u00a0\u3000" + string.punctuation + "。！？，、；：")


def inside_word(text: str, position: int) -> bool:
    """Tell whether a tokenizer may see one word across a position: no blank, punctuation or ideograph is beside it."""
    if not 0 < position < len(text):
        return False
    return not (_separates(text[position - 1]) or _separates(text[position]))


def _separates(character: str) -> bool:
    """Tell whether BERT's tokenizer always ends a word at this character."""
    return character in _SEPARATORS or "\u4e00" <= character <= "\u9fff" or "\u3400" <= character <= "\u4dbf"


@dataclass(slots=True)
class TokenCounts:
    """Begins and ids of tokens, found block by block as the text is walked through; earlier ones are forgotten.

    Positions are asked for in nearly ascending order: only the last few blocks are kept. Where no blank could be found
    to end a block, the block's end is a seam, and counts across it may differ from those of the text as a whole.
    """

    text: str
    tokenizer: TextTokenizer
    begins: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    ids: TokenIds = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    known: int = 0  # the text up to here has been tokenised
    seams: list[int] = field(default_factory=list)

    def count(self, start: int, end: int) -> int:
        """Return the number of tokens that begin in `[start, end)`."""
        self._read(end)
        low, high = np.searchsorted(self.begins, (start, end))
        return int(high - low)

    def ids_within(self, start: int, end: int) -> TokenIds:
        """Return the ids of the tokens that begin in `[start, end)`, none of which may have been forgotten."""
        low, high = np.searchsorted(self.begins, (start, end))
        return self.ids[low:high].copy()  # a view would keep the whole block alive

    def reach(self, start: int, tokens: int, *, at_most: int) -> int:
        """Return how far a passage of `tokens` tokens may go: to the begin of the next token, or to `at_most`."""
        low = int(np.searchsorted(self.begins, start))
        while low + tokens >= len(self.begins) and self.known < at_most:
            self._read(self.known + 1, keep=start)
            low = int(np.searchsorted(self.begins, start))
        if low + tokens >= len(self.begins):
            return at_most
        return min(int(self.begins[low + tokens]), at_most)

    def seam_within(self, start: int, end: int) -> bool:
        """Tell whether `[start, end)` was tokenised in parts that a tokenizer may join."""
        return any(start < seam < end for seam in self.seams)

    def _read(self, end: int, *, keep: int | None = None) -> None:
        """Tokenise on to `end`; forget the tokens before `keep`."""
        while self.known < end:
            start, stop = self.known, self._block_end(self.known)
            found = self.tokenizer.encode(self.text[start:stop])
            begins = np.fromiter((offset[0] for offset in found.offsets), dtype=np.int64, count=len(found.ids)) + start
            low = 0 if keep is None else int(np.searchsorted(self.begins, keep))
            self.begins = np.concatenate((self.begins[low:], begins))
            self.ids = np.concatenate((self.ids[low:], np.array(found.ids, dtype=np.int32)))
            if keep is not None:
                self.seams = [seam for seam in self.seams if seam > keep]
            if inside_word(self.text, stop):
                self.seams.append(stop)
            self.known = stop

    def _block_end(self, start: int) -> int:
        """End a block at its last line end, else at its last blank, else anywhere."""
        stop = start + BLOCK_CHARACTERS
        if stop >= len(self.text):
            return len(self.text)
        for blank in ("\n", " "):
            found = self.text.rfind(blank, start + BLOCK_CHARACTERS // 2, stop)
            if found > 0:
                return found + 1
        return stop
