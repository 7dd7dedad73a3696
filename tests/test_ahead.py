from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from odqa.ahead import groups, one_ahead


def test_groups_hold_everything_in_order() -> None:
    assert list(groups("abcdefg", 3)) == [["a", "b", "c"], ["d", "e", "f"], ["g"]]
    assert list(groups("", 3)) == []


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_every_item_with_what_was_made_of_it(count: int, ahead: bool) -> None:
    found = list(one_ahead(lambda n: n * n, range(count), ahead=ahead))
    assert found == [(n, n * n) for n in range(count)]


def test_the_next_is_made_while_the_caller_has_this_one() -> None:
    made = {n: threading.Event() for n in range(3)}

    def make(n: int) -> str:
        made[n].set()
        return threading.current_thread().name

    pairs = one_ahead(make, range(3))
    assert next(pairs) == (0, threading.current_thread().name)
    assert made[1].wait(timeout=60)
    assert not made[2].is_set()
    assert [name.startswith("odqa-ahead") for _, name in pairs] == [True, True]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("odqa-ahead")]


def test_without_looking_ahead_no_item_is_taken_before_its_turn() -> None:
    taken = []

    def items() -> Iterator[int]:
        for n in range(3):
            taken.append(n)
            yield n

    pairs = one_ahead(str, items(), ahead=False)
    assert next(pairs) == (0, "0")
    assert taken == [0]


def test_what_fails_is_raised_at_its_turn() -> None:
    def make(n: int) -> int:
        if n == 2:
            raise ValueError("two")
        return n

    pairs = one_ahead(make, range(5))
    assert [next(pairs), next(pairs)] == [(0, 0), (1, 1)]
    with pytest.raises(ValueError, match="two"):
        next(pairs)
    assert list(pairs) == []


def test_who_has_enough_leaves_no_thread() -> None:
    pairs = one_ahead(str, range(5))
    next(pairs)
    pairs.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("odqa-ahead")]
