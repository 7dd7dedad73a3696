"""Items in groups, and work on the next one while the caller is still at the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def groups(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in order, `size` of them at a time; the last group may be smaller."""
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group


def one_ahead(
    make: Callable[[Item], Made], items: Iterable[Item], *, ahead: bool = True
) -> Iterator[tuple[Item, Made]]:
    """Yield each item with what `make` makes of it, in order; the next is made in a thread meanwhile.

    The first is made in the caller's thread, so there is no other one for a single item. What `make` raises is raised
    when its item's turn comes. The thread has ended when this has, or is closed.

    Args:
        make: safe to call while the caller uses what it made before.
        items: taken one more than is yielded.
        ahead: False makes each item when its turn comes, and takes no item before.
    """
    rest = iter(items)
    if not ahead:
        yield from ((item, make(item)) for item in rest)
        return
    for first in islice(rest, 1):
        item, made = first, make(first)
        with ThreadPoolExecutor(1, thread_name_prefix="odqa-ahead") as thread:
            for following in rest:
                coming = thread.submit(make, following)
                yield item, made
                item, made = following, coming.result()
        yield item, made
