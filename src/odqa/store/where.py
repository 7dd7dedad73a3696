"""The language of filters: `year >= 2020 and (suffix in (pdf, docx) or path ^= manuals/)`.

    filter     := all {"or" all}
    all        := part {"and" part}
    part       := "(" filter ")" | condition
    condition  := KEY OPERATOR VALUE | KEY "prefix" VALUE | KEY "in" "(" VALUE {"," VALUE} ")"
    OPERATOR   := = | != | < | <= | > | >= | ^=

A KEY is a letter or "_" followed by letters, digits, "_", "." and "-"; a VALUE is a run of characters without blanks,
parentheses, commas, quotes, "<" and ">", which does not begin with an operator. Everything else, and the words "and",
"or", "in" and "prefix" as keys, is put in quotes, ' or ", where the quote itself is doubled. The words may be written
in capitals.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

from odqa.store.filters import AllOf, AnyOf, Condition, Expression

Where: TypeAlias = str | Expression | Sequence[str | Expression]

MOST_NESTED = 50
_HERE = " <-- HERE "
_SHOWN = 60  # characters of a filter shown on either side of a mistake

_BLANKS = re.compile(r"\s*")
_QUOTED = re.compile(r"""'(?:[^']|'')*'(?!')|"(?:[^"]|"")*"(?!")""")
_KEY = re.compile(r"[^\W\d][\w.-]*")
_OPERATOR = re.compile(r"\^=|!=|<=|>=|=|<|>|(?:in|prefix)\b", re.IGNORECASE)
_VALUE = re.compile(r"""[^\s()'",<>=!^][^\s()",<>]*""")
_WORD = re.compile(r"""(?:and|or)(?=[\s()'"]|\Z)""", re.IGNORECASE)
_RESERVED = ("and", "or", "in", "prefix")


def read_where(where: Where) -> Expression | None:
    """Join what a caller gave as filters, each a text or an expression, into one; all have to hold. None for none.

    Raises:
        ValueError: a text is not a filter; the message marks the place.
    """
    given = [where] if isinstance(where, str | Condition | AllOf | AnyOf) else list(where)
    parts = [parse_where(one) if isinstance(one, str) else one for one in given]
    for part in parts:
        if not isinstance(part, Condition | AllOf | AnyOf):
            raise ValueError(f"not a filter: {part!r} (give a text such as 'year>=2020', or a Condition)")
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts)) if parts else None


def parse_where(text: str) -> Expression:
    """Read a filter; see the head of this file for its grammar.

    Raises:
        ValueError: `text` is not a filter; the message marks the place.
    """
    parser = _Parser(text)
    expression = parser.any_of(0)
    parser.end()
    return expression


class _Parser:
    """Reads from left to right; `_at` is the place that was reached."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._skip(_BLANKS)

    def any_of(self, depth: int) -> Expression:
        parts = [self._all_of(depth)]
        while self._word("or"):
            parts.append(self._all_of(depth))
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def end(self) -> None:
        """Refuse whatever is left."""
        if self._at < len(self._text):
            if self._text[self._at] == ")":
                raise self._error("this ')' closes nothing")
            raise self._error("'and', 'or' or the end was expected; put a value with blanks or signs in quotes")

    def _all_of(self, depth: int) -> Expression:
        parts = [self._part(depth)]
        while self._word("and"):
            parts.append(self._part(depth))
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _part(self, depth: int) -> Expression:
        if not self._sign("("):
            return self._condition()
        if depth == MOST_NESTED:
            raise self._error(f"more than {MOST_NESTED} parentheses within each other")
        expression = self.any_of(depth + 1)
        if not self._sign(")"):
            raise self._error("'and', 'or' or ')' was expected; put a value with blanks or signs in quotes")
        return expression

    def _condition(self) -> Condition:
        began = self._at
        key = self._quoted() if self._at_quote() else self._skip(_KEY)
        if not key or (self._text[began] not in "'\"" and key.lower() in _RESERVED):
            self._at = began
            raise self._error("a key was expected, as in year>=2020")
        operator = self._skip(_OPERATOR).lower()
        if not operator:
            raise self._error(f"an operator was expected after {key!r}: = != < <= > >= ^= in")
        value = self._values() if operator == "in" else self._value(operator)
        try:
            return Condition(key, "^=" if operator == "prefix" else operator, value)
        except ValueError as error:
            raise self._error(str(error)) from error

    def _values(self) -> tuple[str, ...]:
        if not self._sign("("):
            raise self._error("'(' was expected, as in suffix in (pdf, docx)")
        values = [self._value("(")]
        while self._sign(","):
            values.append(self._value(","))
        if not self._sign(")"):
            raise self._error("',' or ')' was expected; put a value with blanks or signs in quotes")
        return tuple(values)

    def _value(self, before: str) -> str:
        if self._at_quote():
            return self._quoted()
        if self._at == len(self._text) or self._text[self._at] in ",)" or _WORD.match(self._text, self._at):
            raise self._error(f"a value was expected after '{before}'; the empty text is \"\"")
        value = self._skip(_VALUE)
        if not value:
            raise self._error(f"a value was expected after '{before}'; put one with signs in quotes")
        return value

    def _at_quote(self) -> bool:
        return self._text[self._at : self._at + 1] in ("'", '"')

    def _quoted(self) -> str:
        quote = self._text[self._at]
        found = _QUOTED.match(self._text, self._at)
        if found is None:
            raise self._error(f"this {quote} is not closed")
        self._at = found.end()
        self._skip(_BLANKS)
        return found[0][1:-1].replace(quote * 2, quote)

    def _word(self, word: str) -> bool:
        found = _WORD.match(self._text, self._at)
        if found is None or found[0].lower() != word:
            return False
        self._skip(_WORD)
        return True

    def _sign(self, sign: str) -> bool:
        if not self._text.startswith(sign, self._at):
            return False
        self._at += 1
        self._skip(_BLANKS)
        return True

    def _skip(self, pattern: re.Pattern[str]) -> str:
        """Step over what `pattern` matches here, and blanks behind it; return the match, "" for none."""
        found = pattern.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        blanks = _BLANKS.match(self._text, self._at)
        self._at = blanks.end() if blanks else self._at
        return found[0]

    def _error(self, reason: str) -> ValueError:
        before, after = self._text[: self._at].rstrip(), self._text[self._at :]
        before = before if len(before) <= _SHOWN else "…" + before[-_SHOWN:]
        after = after if len(after) <= _SHOWN else after[:_SHOWN] + "…"
        return ValueError(f"not a filter: {reason}: {f'{before}{_HERE}{after}'.strip()}")
