"""Values made fit to print: text that cannot steer a terminal, and results as JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from odqa.types import Answer, CheckReport, Passage, Place

# C0, DEL, C1 (U+009B begins an escape sequence, as ESC [ does), line and paragraph separators, the overrides of the
# writing direction, with which a text can be made to look like another, and halves of surrogate pairs.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_BLANKS = re.compile(r"[ \t\r\n\f\v]+")


def visible(text: str) -> str:
    r"""Return `text` on one line, with every character that could steer a terminal written as an escape.

    Control characters, separators of lines and overrides of direction become `\x1b`, `\n`, `\u202e`; bytes of a file
    name that are not UTF-8 (lone surrogates, PEP 383) become `\xff`.
    """
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code > 0xFF:
        return f"\\u{code:04x}"
    return {9: "\\t", 10: "\\n", 13: "\\r"}.get(code, f"\\x{code:02x}")


def flat(text: str) -> str:
    """Return `text` with every run of blanks and line ends as one blank."""
    return _BLANKS.sub(" ", text)


# ---- JSON ----------------------------------------------------------------------------------------------------------


def to_json(value: object) -> str:
    r"""Return a result as one line of JSON: keys are the names of the fields, null stands for None.

    What `visible` would escape is written as `\uXXXX`, so that the line can be shown on a terminal and read back whole.
    """
    text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _plain(value: object) -> object:
    """Turn a result into dicts, lists and scalars. Passages inside answers stand without their text: see `passages`."""
    if isinstance(value, Answer):
        place = value.places[0]
        return _fields(value) | {"page": place.page, "heading": place.heading, "passage": _reference(value.passage)}
    if isinstance(value, Place):
        return _fields(value) | {"page": value.page, "heading": value.heading, "passage": _reference(value.passage)}
    if isinstance(value, CheckReport):
        return {"clean": value.clean} | _fields(value)
    if is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no such number
    return str(value) if isinstance(value, Path) else value


def _fields(value: Any) -> dict[str, object]:  # noqa: ANN401 - any dataclass
    return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}


def _reference(passage: Passage) -> dict[str, object]:
    names = ("passage_id", "doc_id", "title", "span", "source")
    return {name: _plain(getattr(passage, name)) for name in names}
