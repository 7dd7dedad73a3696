"""Replies of a parser process that are JSON of the right kind, with some parts changed.

Bytes changed one by one are seldom JSON, so what lies behind its decoder is reached by few of them.
"""

from __future__ import annotations

import copy
import json
import math
import random
from typing import Any

from fuzz_frame import Target
from target_reply import GOOD
from target_reply import check as check_reply

from odqa.ingest import wire

REPLY = {"parsed": wire.parsed_fields(GOOD)}
PARTS: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63), 2**64, -0.0, 1.5, 1e308, math.inf, math.nan),
    *("", "a", " ", "\n", "\x00", "\x1f", "\u2028", "\ufeff", "\ud800", "é" * 3, "x" * 1000, GOOD.text),
    *([], {}, [0, 1], [0, 8, None, None], [[0, 5, 1, "h"]], {"a": 1}),
)
KEYS = ("", "a", "text", "title", "parsed", "\ud800")


def check(data: bytes) -> None:
    """Let the bytes choose the changes."""
    choose = random.Random(data)
    reply = copy.deepcopy(REPLY)
    for _ in range(choose.randint(1, 5)):
        _change(choose.choice(list(_holders(reply))), choose)
    check_reply(json.dumps(reply, ensure_ascii=choose.random() < 0.7).encode("utf-8", "surrogatepass"))


def _holders(value: Any) -> Any:
    """Yield all objects and arrays."""
    if isinstance(value, dict | list):
        yield value
        for part in value.values() if isinstance(value, dict) else value:
            yield from _holders(part)


def _change(holder: Any, choose: random.Random) -> None:
    """Put something else in the place of a part, take it out, or add one."""
    part = copy.deepcopy(choose.choice(PARTS))
    places = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    if not places or choose.random() < 0.2:
        if isinstance(holder, dict):
            holder[choose.choice(KEYS)] = part
        else:
            holder.insert(choose.randint(0, len(holder)), part)
        return
    place = choose.choice(places)
    if choose.random() < 0.15:
        del holder[place]
    elif isinstance(holder[place], int) and choose.random() < 0.5:
        holder[place] += choose.choice((-1, 1, 100))
    else:
        holder[place] = part


TARGET = Target("reply_fields", check, lambda: [b"", b"1"])
