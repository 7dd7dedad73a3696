from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odqa.protocols import Encoding
from odqa.reader.windows import Window, windows

CLS, SEP = 101, 102


def passage(tokens: int) -> Encoding:
    return Encoding(list(range(1000, 1000 + tokens)), [(i, i + 1) for i in range(tokens)])


def by_definition(question: int, tokens: int, *, max_tokens: int, doc_stride: int) -> list[tuple[int, int]]:
    """Return [first, end) of the windows, grown token by token."""
    room, found = max_tokens - question - 3, []
    first = 0
    while tokens and (not found or found[-1][1] < tokens):
        end = first
        while end < tokens and end - first < room:
            end += 1
        found.append((first, end))
        first = end - doc_stride
    return found


@given(st.data())
def test_windows_are_those_of_the_definition(data: st.DataObject) -> None:
    doc_stride = data.draw(st.integers(0, 8))
    question_tokens = data.draw(st.integers(0, 6))
    max_tokens = data.draw(st.integers(doc_stride + question_tokens + 4, 40))
    question = list(range(1, 1 + data.draw(st.integers(0, 9))))
    lengths = data.draw(st.lists(st.integers(0, 90), max_size=4))
    found = windows(
        question, [passage(n) for n in lengths], cls_id=CLS, sep_id=SEP,
        max_tokens=max_tokens, doc_stride=doc_stride, question_tokens=question_tokens,
    )  # fmt: skip
    asked = question[:question_tokens]
    wanted = []
    for number, tokens in enumerate(lengths):
        for first, end in by_definition(len(asked), tokens, max_tokens=max_tokens, doc_stride=doc_stride):
            ids = [CLS, *asked, SEP, *passage(tokens).ids[first:end], SEP]
            types = [0] * (len(asked) + 2) + [1] * (end - first + 1)
            wanted.append(Window(number, ids, types, len(asked) + 2, first))
    assert found == wanted
    for window in found:
        assert len(window.ids) <= max_tokens
        assert window.ids[window.context_start] == 1000 + window.first_token
        assert window.context_tokens >= 1
    for one, two in pairwise(found):
        if one.passage == two.passage:
            end = one.first_token + one.context_tokens
            assert end - two.first_token == doc_stride
            assert two.first_token + two.context_tokens > end


def test_the_lengths_at_which_the_reference_goes_wrong() -> None:
    question = [1] * 32
    found = windows(question, [passage(n) for n in (1, 173, 348, 349, 350)], cls_id=CLS, sep_id=SEP)
    assert [(w.passage, w.first_token, w.context_tokens) for w in found] == [
        (0, 0, 1), (1, 0, 173), (2, 0, 348), (3, 0, 349), (4, 0, 349), (4, 221, 129),
    ]  # fmt: skip


def test_long_questions_are_cut() -> None:
    (window,) = windows([7] * 500, [passage(5)], cls_id=CLS, sep_id=SEP)
    assert window.ids == [CLS, *[7] * 64, SEP, *passage(5).ids, SEP]


def test_windows_that_would_never_end() -> None:
    with pytest.raises(ValueError, match="no room for more than the 10 tokens"):
        windows([1], [passage(50)], cls_id=CLS, sep_id=SEP, max_tokens=20, doc_stride=10, question_tokens=7)
    assert windows([1], [passage(50)], cls_id=CLS, sep_id=SEP, max_tokens=20, doc_stride=10, question_tokens=6)
