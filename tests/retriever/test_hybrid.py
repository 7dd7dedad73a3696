from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

import fake_models
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odqa.protocols import PreparedDocument
from odqa.retriever.hybrid import Fusion, HybridRetriever, SecondLook, has_words, text_expression
from odqa.store.index import Index
from odqa.types import Document, Passage, RetrievedPassage, Span

PLAIN = Fusion(dense_weight=1.0, text_weight=1.0)
ONE_LOOK = SecondLook(passages=0)


class ListedIndex:
    """An index whose two ranked lists are given; keeps `odqa.retriever.hybrid.SearchableIndex`."""

    def __init__(
        self,
        dense: list[tuple[int, float]],
        text: list[tuple[int, float]],
        *,
        dead: Sequence[int] = (),
        texts: Mapping[int, str] | None = None,
    ) -> None:
        self.dense, self.text, self.dead, self.texts = dense, text, dead, texts or {}
        self.depths: list[int] = []

    def search_dense(
        self, vectors: np.ndarray, *, top_k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        self.depths.append(top_k)
        kept = [(i, d) for i, d in self.dense if allowed is None or i in allowed][:top_k]
        kept += [(-1, np.inf)] * (top_k - len(kept))
        distances = np.array([[d for _, d in kept]] * len(vectors), np.float32).reshape(len(vectors), top_k)
        return distances, np.array([[i for i, _ in kept]] * len(vectors), np.int64).reshape(len(vectors), top_k)

    def search_text(self, expression: str, *, top_k: int, allowed: np.ndarray | None = None) -> list[tuple[int, float]]:
        return [(i, s) for i, s in self.text if allowed is None or i in allowed][:top_k]

    def count_matches(self, expressions: Sequence[str], *, most: int) -> list[int] | None:
        return None

    def passages(self, ids: Sequence[int]) -> dict[int, Passage]:
        texts = {i: self.texts.get(i, f"text {i}") for i in sorted(ids) if i not in self.dead}
        return {i: Passage(i, f"d{i}", "", text, Span(0, len(text)), f"/d{i}") for i, text in texts.items()}


def retrieve(
    index: ListedIndex, *, fusion: Fusion = PLAIN, second_look: SecondLook = ONE_LOOK, **options: object
) -> tuple[RetrievedPassage, ...]:
    retriever = HybridRetriever(index, fake_models.BagEncoder(), fusion=fusion, second_look=second_look)
    return retriever.retrieve(["whale song"], **options)[0]  # type: ignore[arg-type]


def as_rows(found: Sequence[RetrievedPassage]) -> list[tuple[int, int, float | None, float | None]]:
    return [(one.passage.passage_id, one.rank, one.dense_score, one.text_score) for one in found]


def test_fusion_by_hand() -> None:
    index = ListedIndex([(7, 0.5), (3, 0.75), (9, 1.5)], [(3, 8.0), (4, 6.0), (7, 2.0)])
    found = retrieve(index)
    assert as_rows(found) == [(3, 1, -0.75, 8.0), (7, 2, -0.5, 2.0), (4, 3, None, 6.0), (9, 4, -1.5, None)]
    assert [one.score for one in found] == pytest.approx([1.75 / 2, 1.25 / 2, 0.75 / 2, 0.0], rel=1e-12)


def test_weights_by_hand() -> None:
    index = ListedIndex([(1, 0.5), (2, 0.75), (3, 1.0)], [(2, 3.0)])
    found = retrieve(index, fusion=Fusion(dense_weight=3.0, text_weight=2.0))
    assert [(one.passage.passage_id, one.score) for one in found] == [(2, 3.5 / 5), (1, 3 / 5), (3, 0.0)]
    found = retrieve(index, fusion=Fusion(dense_weight=3.0, text_weight=1.0))
    assert [one.passage.passage_id for one in found] == [1, 2, 3]


def test_a_passage_beyond_a_cut_list_counts_as_its_last() -> None:
    index = ListedIndex([(1, 0.5), (2, 0.75)], [(3, 4.0), (4, 2.0), (2, 1.0)])
    assert {row.passage.passage_id: row.score for row in retrieve(index, top_k=2, candidates=2)} == {1: 0.75, 3: 0.5}


def test_one_score_alone_is_the_best() -> None:
    assert [one.score for one in retrieve(ListedIndex([(1, 0.5)], [(1, 3.0)]))] == [1.0]


@pytest.mark.parametrize("scale", [0.01, 1.0, 250.0])
def test_the_scale_of_an_encoder_does_not_matter(scale: float) -> None:
    index = ListedIndex([(7, 0.5 * scale), (3, 0.75 * scale), (9, 1.5 * scale)], [(3, 8.0), (4, 6.0), (7, 2.0)])
    assert [one.score for one in retrieve(index)] == pytest.approx([0.875, 0.625, 0.375, 0.0], rel=1e-6)


def test_equal_scores_go_to_the_older_passage() -> None:
    assert [row[0] for row in as_rows(retrieve(ListedIndex([(8, 0.1)], [(5, 9.0)])))] == [5, 8]


def test_each_mode_uses_its_list() -> None:
    index = ListedIndex([(7, 0.5), (3, 0.75)], [(3, 8.0), (4, 6.0)])
    assert as_rows(retrieve(index, mode="dense")) == [(7, 1, -0.5, None), (3, 2, -0.75, None)]
    assert as_rows(retrieve(index, mode="text")) == [(3, 1, None, 8.0), (4, 2, None, 6.0)]
    without_encoder = HybridRetriever(index, None, fusion=PLAIN).retrieve(["whale"], mode="text")
    assert without_encoder[0] == retrieve(index, mode="text")
    with pytest.raises(ValueError, match="no encoder"):
        HybridRetriever(index, None).retrieve(["whale"], mode="dense")


def test_top_k_is_a_prefix_and_reaches_deeper_than_the_candidates() -> None:
    index = ListedIndex([(i, float(i)) for i in range(1, 300)], [(i, 400.0 - i) for i in range(200, 1, -1)])
    whole = retrieve(index, top_k=250)
    assert len(whole) == 250
    assert index.depths == [250]
    assert [one.rank for one in whole] == list(range(1, 251))
    shallow = [row[0] for row in as_rows(retrieve(index, top_k=3, candidates=100))]
    assert len(shallow) == 3
    assert index.depths[-1] == 100


@pytest.mark.parametrize("mode", ["dense", "text", "hybrid"])
def test_the_best_of_the_lists_that_were_asked_scores_one(mode: str) -> None:
    index = ListedIndex([(1, 0.5), (2, 0.75)], [(1, 4.0), (2, 2.0)])
    assert retrieve(index, mode=mode, fusion=Fusion(dense_weight=3.0, text_weight=0.2))[0].score == 1.0


def test_deleted_passages_are_dropped_and_others_take_their_place() -> None:
    index = ListedIndex([(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)], [(2, 5.0), (1, 4.0)], dead=(1, 3))
    assert [row[:2] for row in as_rows(retrieve(index, top_k=2))] == [(2, 1), (4, 2)]


def test_however_many_were_deleted_others_take_their_place() -> None:
    index = ListedIndex([(i, i / 100) for i in range(1, 41)], [], dead=tuple(range(1, 31)))
    assert [row[0] for row in as_rows(retrieve(index, top_k=5))] == [31, 32, 33, 34, 35]


def test_allowed_reaches_both_lists() -> None:
    index = ListedIndex([(1, 0.1), (2, 0.2)], [(3, 5.0), (2, 4.0)])
    assert [row[0] for row in as_rows(retrieve(index, allowed=np.array([2], np.int64)))] == [2]
    assert retrieve(index, allowed=np.array([], np.int64)) == ()


def test_a_second_look_by_hand() -> None:
    """Passage 2 alone holds both words, side by side, and overtakes the first of both lists."""
    texts = {1: "A whale. No song.", 2: "Of old. The whale song is long."}
    index = ListedIndex([(1, 0.5), (2, 0.75), (3, 1.0)], [(1, 4.0), (2, 3.0)], texts=texts)
    weights = SecondLook(dense_weight=1.0, text_weight=1.0, coverage_weight=2.0, pairs_weight=1.0)
    assert [row[0] for row in as_rows(retrieve(index))] == [1, 2, 3]
    found = retrieve(index, second_look=weights)
    assert as_rows(found) == [(2, 1, -0.75, 3.0), (1, 2, -0.5, 4.0), (3, 3, -1.0, None)]
    # Both words are held by two of three passages, so either is half of the question. The others are 0.25 and 0.5
    # farther than the nearest, where the farthest is at 1.
    assert [one.score for one in found] == pytest.approx([(0.75 + 0.75 + 2 + 1) / 5, (1 + 1 + 2 / 2) / 5, 0.5 / 5])
    for mode in ("dense", "text"):  # one list alone keeps its own order
        assert retrieve(index, mode=mode, second_look=weights) == retrieve(index, mode=mode)


def test_only_the_best_passages_are_looked_at_again() -> None:
    lists = [(i, float(i)) for i in range(1, 6)]
    index = ListedIndex(lists, [(i, 9.0 - i) for i in range(1, 6)], texts={2: "whale song", 3: "whale song"})
    found = retrieve(index, second_look=SecondLook(passages=2))
    assert [row[0] for row in as_rows(found)] == [2, 1, 3, 4, 5]
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)
    assert retrieve(index, second_look=SecondLook(passages=2), top_k=1) == found[:1]  # a short list is a prefix
    assert retrieve(index, second_look=SecondLook(passages=2), top_k=4) == found[:4]


SAID = st.lists(st.sampled_from(["whale", "song", "the", "whale song", ".", "sea"]), max_size=6).map(" ".join)


@given(said=st.lists(SAID, min_size=1, max_size=12), looks=st.integers(1, 12), order=st.randoms(use_true_random=False))
def test_what_cannot_be_among_the_best_is_left_out_and_nothing_else(
    said: list[str], looks: int, order: random.Random
) -> None:
    texts = dict(enumerate(said, start=1))
    dense = sorted(((i, order.choice([0.5, 0.6, 0.9])) for i in texts), key=lambda pair: pair[1])
    full = sorted(((i, order.choice([1.0, 2.0, 3.0])) for i in texts), key=lambda pair: -pair[1])
    index = ListedIndex(dense, full, texts=texts)
    weights = SecondLook(passages=looks)
    whole = retrieve(index, second_look=weights, top_k=len(texts))  # so many that every passage is looked at
    for count in range(1, len(texts)):
        assert retrieve(index, second_look=weights, top_k=count) == whole[:count]


def test_a_second_look_reaches_deeper_than_what_is_returned() -> None:
    lists = [(i, float(i)) for i in range(1, 8)]
    index = ListedIndex(lists, [], dead=(1, 2), texts={6: "whale song"})
    assert [row[:2] for row in as_rows(retrieve(index, second_look=SecondLook(pairs_weight=3.0), top_k=1))] == [(6, 1)]


def test_several_questions_and_none() -> None:
    retriever = HybridRetriever(ListedIndex([(1, 0.1)], []), fake_models.BagEncoder())
    assert [len(found) for found in retriever.retrieve(["one", "two", "three"])] == [1, 1, 1]
    assert retriever.retrieve([]) == []


@pytest.mark.parametrize(
    ("question", "options", "message"),
    [
        ("whale", {"top_k": 0}, "top_k is 0"),
        ("whale", {"top_k": -2}, "top_k is -2"),
        ("whale", {"mode": "fuzzy"}, "unknown mode 'fuzzy': one of hybrid, dense, text"),
        (" \n\u3000", {}, "the question is blank"),
        ("", {}, "the question is blank"),
        ("?!", {}, "has no words"),
        ("🙂", {}, "has no words"),
    ],
)
def test_wrong_arguments(question: str, options: dict[str, object], message: str) -> None:
    retriever = HybridRetriever(ListedIndex([], []), fake_models.BagEncoder())
    with pytest.raises(ValueError, match=message):
        retriever.retrieve(["fine", question], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("question", "expression"),
    [
        ("Who wrote the Iliad?", '"wrote" OR "iliad"'),
        ("Iliad, ILIAD iliad", '"iliad"'),
        ("who is the who", '"who" OR "is" OR "the"'),
        ('a "quoted" (phrase) NEAR/3 AND OR NOT', '"quoted" OR "phrase" OR "near" OR "3" OR "not"'),
        ("title:x* ^first + -last {text}", '"title" OR "x" OR "first" OR "last" OR "text"'),
        ("don't", '"don" OR "t"'),
        ("Где находится Эрмитаж?", '"где" OR "находится" OR "эрмитаж"'),
        ("東京はどこ", '"東京はどこ"'),
        ("?!", ""),
        ("", ""),
    ],
)
def test_expressions(question: str, expression: str) -> None:
    assert text_expression(question) == expression
    assert text_expression(question, near=True).startswith(expression)


@pytest.mark.parametrize(
    ("question", "near"),
    [
        ("Who wrote the Iliad?", ' OR NEAR("wrote" "iliad", 5)'),
        ("who is the", ' OR NEAR("who" "is", 5) OR NEAR("is" "the", 5)'),
        ('"quoted" NEAR/3', ' OR NEAR("quoted" "near", 5) OR NEAR("near" "3", 5)'),
        ("Iliad", ""),
        ("?!", ""),
    ],
)
def test_near_words(question: str, near: str) -> None:
    assert text_expression(question, near=True) == text_expression(question) + near


@pytest.mark.parametrize(
    ("question", "wordy"), [("a", True), ("7", True), ("где", True), ("東", True), ("?_ 🙂\u0301", False), ("", False)]
)
def test_words(question: str, wordy: bool) -> None:
    assert has_words(question) is wordy


# ---- with the real store: no question is FTS5 syntax ---------------------------------------------------------------

# One a line.
SYNTAX = """
AND
OR
NOT
whale AND
NOT whale
NEAR(whale, 2)
whale*
^whale
title : whale
{title} : whale
- whale
a + whale
"
""whale""
'
(
)
((whale
whale)
whale;--
\x00whale
whale\\
_
,
ﬁn
WHALE
İstanbul
ǅ whale
e\u0301 whale
🙂whale🙂
東京whale
\ufeffwhale
""".strip().split("\n")


@pytest.fixture(scope="module")
def small_index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    texts = ["the whale sings", "an orca and a seal", "not near or and"]
    vectors = fake_models.BagEncoder().encode_passages(texts, titles=[""] * 3)
    with Index.create(tmp_path_factory.mktemp("hybrid") / "index", fake_models.identity()) as index:
        for number, text in enumerate(texts):
            document = Document(f"d{number}", "", text, f"/d{number}")
            index.write([PreparedDocument(document, (Span(0, len(text)),), vectors[number : number + 1])])
        yield index


@pytest.mark.parametrize("question", SYNTAX)
def test_no_syntax_of_fts5_has_any_effect(small_index: Index, question: str) -> None:
    expression = text_expression(question, near=True)
    found = small_index.search_text(expression, top_k=9) if expression else []
    ids = [i for i, _ in found]
    if "whale" in question.lower() and "東京" not in question:  # no boundary between a han character and a letter
        assert 1 in ids
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


@given(st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from('"*^():+-{}, \x00')), max_size=40))
def test_any_text_is_a_valid_expression(small_index: Index, question: str) -> None:
    expression = text_expression(question, near=True)
    assert bool(expression) or not has_words(question)
    small_index.search_text(expression or '""', top_k=9)


def test_a_search_over_the_store(small_index: Index) -> None:
    retriever = HybridRetriever(small_index, fake_models.BagEncoder())
    for mode in ("hybrid", "dense", "text"):
        assert retriever.retrieve(["the whale sings"], mode=mode)[0][0].passage.text == "the whale sings"
    exact = retriever.retrieve(["the whale sings"], mode="dense")[0][0]
    assert exact.dense_score == pytest.approx(0.0, abs=1e-3)


class NotedEncoder(fake_models.BagEncoder):
    """Notes whether questions were asked with their words."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bool] = []

    def encode_questions(self, questions: Sequence[str], *, lexical: bool = True) -> np.ndarray:
        self.asked.append(lexical)
        return super().encode_questions(questions)


@pytest.mark.parametrize(("mode", "asked"), [("hybrid", [False]), ("dense", [True]), ("text", [])])
def test_vectors_are_asked_for_words_only_where_there_is_no_full_text(mode: str, asked: list[bool]) -> None:
    encoder = NotedEncoder()
    HybridRetriever(ListedIndex([(1, 0.1)], [(1, 3.0)]), encoder).retrieve(["whale song"], top_k=1, mode=mode)
    assert encoder.asked == asked
