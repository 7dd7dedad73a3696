"""Question + passages -> spans, by a model of the registry."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from odqa import settings
from odqa.models.opening import open_model
from odqa.models.registry import READ, ModelSpec, find, need_task
from odqa.models.runtime import Row
from odqa.protocols import Encoding, SpanCandidate
from odqa.reader.bounds import closed, in_one_block, joined
from odqa.reader.interrogatives import Interrogatives, interrogatives
from odqa.reader.omz import omz_span, omz_windows
from odqa.reader.spans import TokenSpan, Words, best_spans, word_bounds
from odqa.reader.tables import as_sentences
from odqa.reader.windows import Window, windows
from odqa.types import Span

Logits = NDArray[np.float32]

SPARE_SPANS = 20  # taken from each window beyond `n_best`, in place of those that are no answers

QUESTIONS_KEPT = 512  # whose word pieces are kept: those of a large batch and of many threads
KEPT_CHARACTERS = 1000  # of a question, at most
SLICE_QUESTIONS = 32  # questions whose windows are held and batched together by `read_many`


@dataclass(frozen=True, slots=True)
class _Text:
    """A tokenised passage with the first and last token of each token's word.

    `put_in`, bool [tokens], marks those that do not stand in the text; None where all do.
    """

    text: str
    encoding: Encoding
    word_first: Words
    word_last: Words
    put_in: NDArray[np.bool_] | None


class ExtractiveReader:
    """A reader of the registry; keeps `odqa.protocols.Reader`. Threads may share one.

    The n best of a passage may overlap: variants of one answer. `odqa.reader.merge.answers` merges them.
    """

    def __init__(self, spec: ModelSpec, *, environment: Mapping[str, str] = os.environ) -> None:
        """Verify and load the model.

        Raises:
            ModelError: the model is not a reader, or cannot be loaded.
            DamagedModelError: a file is missing or is not the one that the registry names.
        """
        need_task(spec, READ)
        self._spec = spec
        self._tokenizer, self._network = open_model(spec, environment=environment)
        # Passages are read one after another, each with the same question.
        self._known_question = lru_cache(QUESTIONS_KEPT)(self._tokenizer.encode)

    @property
    def name(self) -> str:
        """The model's name."""
        return self._spec.name

    @property
    def spec(self) -> ModelSpec:
        """The model's entry in the registry, with its calibration."""
        return self._spec

    def read(self, question: str, passages: Sequence[str], *, n_best: int) -> list[SpanCandidate]:
        """Return at most `n_best` candidates of each passage, best first over all; `passage` counts from 0.

        Spans are in code points of the passage, on whole words (see `odqa.reader.bounds`), never empty. No passages, or
        none with words, give no candidates.

        Raises:
            ValueError: the question has no words, `n_best` is below 1, or a text holds half of a surrogate pair.
        """
        return self.read_many([question], [passages], n_best=n_best)[0]

    def read_many(
        self, questions: Sequence[str], passages: Sequence[Sequence[str]], *, n_best: int
    ) -> list[list[SpanCandidate]]:
        """Read several questions, each with its own passages: `read_many(q, p)[i] == read(q[i], p[i])`.

        Scores may differ from those of `read` by rounding. Windows of several questions run in one batch.

        Raises:
            ValueError: there are not as many lists of passages as questions, or `read` would raise it.
        """
        if len(questions) != len(passages):
            raise ValueError(f"need one list of passages for each question: {len(passages)} for {len(questions)}")
        if n_best < 1:
            raise ValueError(f"n_best must be at least 1, not {n_best}")
        found = []
        for question, (texts, run) in zip(questions, self._runs(questions, passages), strict=True):
            asked = [interrogatives(question, text.text, text.encoding.offsets) for text in texts]
            spans: dict[int, list[TokenSpan]] = defaultdict(list)
            for window, start, end in run:
                at = window.passage
                spans[at] += _spans(window, texts[at], start, end, asked=asked[at], n_best=n_best)
            candidates = [
                candidate
                for at, of_passage in spans.items()
                for candidate in _candidates(at, texts[at], of_passage, asked=asked[at], n_best=n_best)
            ]
            found.append(sorted(candidates, key=lambda c: (-c.score, c.passage, c.span)))
        return found

    def warm_up(self) -> None:
        """Read a word, so that OpenVINO makes now what it else makes at the first question: a twentieth of a second."""
        self.read("word", ["word"], n_best=1)

    def best_by_window(self, questions: Sequence[str], passages: Sequence[str]) -> list[list[SpanCandidate]]:
        """Return the best span of every window of each question's one passage, in the order of the windows.

        For measuring: the highest score among them is what `read` puts first, and the best of them against the gold
        answers is what evaluations report that look at the answers (an oracle over windows).

        Raises:
            ValueError: as `read_many`.
        """
        found = []
        for question, ((text,), run) in zip(questions, self._runs(questions, [[p] for p in passages]), strict=True):
            asked = interrogatives(question, text.text, text.encoding.offsets)
            spans = [_spans(window, text, start, end, asked=asked, n_best=1) for window, start, end in run]
            found.append([one for part in spans for one in _candidates(0, text, part, asked=asked, n_best=1)])
        return found

    def read_as_omz(self, questions: Sequence[str], passages: Sequence[Sequence[str]]) -> list[list[SpanCandidate]]:
        """Return the best span of every window of each question's passages as the reference demo reads them.

        They stand in the order of the windows, and their scores are products of probabilities within their windows;
        see `odqa.reader.omz`. Spans may begin or end within a word.

        Raises:
            ValueError: as `read_many`, or the reader's windows are too short for this.
        """
        if len(questions) != len(passages):
            raise ValueError(f"need one list of passages for each question: {len(passages)} for {len(questions)}")
        found = []
        for texts, run in self._runs(questions, passages, cut=self._omz_windows, padded=True):
            spans = [(window.passage, omz_span(start, end, window)) for window, start, end in run]
            found.append([SpanCandidate(at, _place(texts[at], span), span.score) for at, span in spans])
        return found

    def _runs(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[str]],
        *,
        cut: Callable[[Encoding, Sequence[_Text]], list[Window]] | None = None,
        padded: bool = False,
    ) -> Iterator[tuple[list[_Text], list[tuple[Window, Logits, Logits]]]]:
        """Yield each question's tokenised passages and its windows with their start and end logits.

        `cut` makes the windows, of passages as they stand; None takes ours, with tables as sentences. With `padded`
        there are logits of a full window's padding, too.
        """
        as_it_stands = cut is not None
        cut = cut or self._windows
        full = self._spec.window_tokens if padded else 0
        for at in range(0, len(questions), SLICE_QUESTIONS):
            part = slice(at, at + SLICE_QUESTIONS)
            asked = [self._question(question) for question in questions[part]]
            for question, encoding in zip(questions[part], asked, strict=True):
                if not encoding.ids:
                    raise ValueError(f"the question {question!r} has no words; ask something")
            distinct = list(dict.fromkeys(text for texts in passages[part] for text in texts))
            known = self._tokenise(distinct, as_it_stands=as_it_stands)
            own = [[known[text] for text in texts] for texts in passages[part]]
            groups = [cut(encoding, texts) for encoding, texts in zip(asked, own, strict=True)]
            rows = [Row(w.ids, w.token_types, max(0, full - len(w.ids))) for group in groups for w in group]
            logits = iter(self._network.logits(rows))
            for texts, group in zip(own, groups, strict=True):
                yield texts, [(window, *next(logits)) for window in group]

    def _question(self, text: str) -> Encoding:
        return self._known_question(text) if len(text) <= KEPT_CHARACTERS else self._tokenizer.encode(text)

    def _tokenise(self, texts: Sequence[str], *, as_it_stands: bool) -> dict[str, _Text]:
        readings = [None if as_it_stands else as_sentences(text) for text in texts]
        read = [text if one is None else one.text for text, one in zip(texts, readings, strict=True)]
        found = {}
        for text, one, given, encoding in zip(texts, readings, read, self._tokenizer.encode_batch(read), strict=True):
            words = word_bounds(joined(given, encoding.offsets, self._tokenizer.continues[encoding.ids]))
            if one is None:
                found[text] = _Text(text, encoding, *words, None)
            else:
                offsets, put_in = one.placed(encoding.offsets)
                found[text] = _Text(text, Encoding(encoding.ids, offsets), *words, put_in)
        return found

    def _windows(self, question: Encoding, texts: Sequence[_Text]) -> list[Window]:
        return windows(
            question.ids,
            [text.encoding for text in texts],
            cls_id=self._tokenizer.cls_id,
            sep_id=self._tokenizer.sep_id,
            max_tokens=self._spec.window_tokens,
            doc_stride=settings.DOC_STRIDE_TOKENS,
            question_tokens=self._spec.question_tokens,
        )

    def _omz_windows(self, question: Encoding, texts: Sequence[_Text]) -> list[Window]:
        return omz_windows(
            question.ids,
            [text.encoding for text in texts],
            cls_id=self._tokenizer.cls_id,
            sep_id=self._tokenizer.sep_id,
            max_tokens=self._spec.window_tokens,
        )


def _spans(
    window: Window,
    text: _Text,
    start: Logits,
    end: Logits,
    *,
    asked: Interrogatives | None,
    n_best: int,
) -> list[TokenSpan]:
    part = slice(window.first_token, window.first_token + window.context_tokens)
    here = slice(window.context_start, window.context_start + window.context_tokens)
    if asked is not None or text.put_in is not None:
        start, end = start.copy(), end.copy()
    if asked is not None:
        start[here] += asked.start[part]
        end[here] += asked.end[part]
    if text.put_in is not None:
        start[here][text.put_in[part]] = end[here][text.put_in[part]] = -np.inf
    return best_spans(
        start,
        end,
        context_start=window.context_start,
        word_first=text.word_first[part],
        word_last=text.word_last[part],
        n_best=n_best + SPARE_SPANS,
    )


def _candidates(
    passage: int, text: _Text, spans: Sequence[TokenSpan], *, asked: Interrogatives | None, n_best: int
) -> list[SpanCandidate]:
    """Turn one passage's spans into candidates; what two windows found alike counts once, with the higher score."""
    best: dict[Span, float] = {}
    for span in spans:
        place = closed(text.text, _place(text, span))
        joins = text.put_in is not None and bool(text.put_in[span.first : span.last + 1].any())
        if not joins and in_one_block(text.text, place) and not (asked and asked.are_crossed_by(place)):
            best[place] = max(span.score, best.get(place, span.score))
    ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))
    return [SpanCandidate(passage, place, score) for place, score in ranked[:n_best]]


def _place(text: _Text, span: TokenSpan) -> Span:
    # Pieces are never empty and never begin or end with white space, so spans are not, and do not, either.
    return Span(text.encoding.offsets[span.first][0], text.encoding.offsets[span.last][1])


def load_reader(name: str, *, environment: Mapping[str, str] = os.environ) -> ExtractiveReader:
    """Load a reader by its name in the registry.

    Raises:
        UnknownModelError: the registry has no such model.
        ModelError: it is not a reader, or cannot be loaded; nothing is ever downloaded here.
    """
    return ExtractiveReader(find(name, task=READ, environment=environment), environment=environment)
