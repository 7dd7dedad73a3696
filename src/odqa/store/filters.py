"""Filters on documents: conditions joined by "and" and "or", and their SQL, in which every value is a bound parameter.

How a filter is written as text is in where.py. Every condition is either true or false of a document, and `!=` is true
exactly where `=` is false; so a document without a field meets `!=` on it, and no other condition.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

Value: TypeAlias = str | int | float | bool

OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "^=", "in")
DOCUMENT_KEYS = ("doc_id", "modified", "path", "source", "suffix", "title")
FIELD_PREFIX = "metadata."
MOST_CONDITIONS = 200  # SQLite takes expressions of a depth of 1,000 at most

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_PERIOD = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?", re.ASCII)

# The path as it is stored, from the name of the given folder on; without that name; and in full.
_PATHS = ("documents.path", "substr(documents.path, instr(documents.path, '/') + 1)", "documents.source")
_COLUMNS = {
    "doc_id": ("documents.doc_id",),
    "path": _PATHS,
    "source": ("documents.source",),
    "suffix": ("documents.suffix",),
    "title": ("documents.title",),
}

# The SQL of the operators; `!=` is the negation of `=`, and the values of `in` are one parameter, a JSON array. Only
# names of columns and parameters of our own making are put in: nothing that a caller wrote becomes part of a statement.
_TEST = {
    "=": "{left} = :{name}",
    "<": "{left} < :{name}",
    "<=": "{left} <= :{name}",
    ">": "{left} > :{name}",
    ">=": "{left} >= :{name}",
    "^=": "substr({left}, 1, length(:{name})) = :{name}",
    "in": "{left} IN (SELECT value FROM json_each(:{name}))",
}
_FIELD = (
    "EXISTS (SELECT 1 FROM json_each(documents.metadata) AS field WHERE field.key = :{key} AND CASE field.type"
    " WHEN 'text' THEN {text} WHEN 'true' THEN {truth} WHEN 'false' THEN {truth}"
    " WHEN 'integer' THEN {number} WHEN 'real' THEN {number} ELSE 0 END)"
)


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition on the documents whose passages may be found.

    Attributes:
        key: `doc_id`, `title`, `path`, `source` (the path in full), `suffix`, `modified`, else a field of the metadata;
            `metadata.title` is the field "title".
        operator: one of `=`, `!=`, `<`, `<=`, `>`, `>=`, `^=` (begins with) and `in`.
        value: a text, number or truth value; for `in` several of them. What is a number, or a text that spells one,
            is compared with stored numbers as a number, and with stored text as text, by code points. Where the kinds
            do not fit, the condition is false (`!=` true). `true` and `false` are the texts of truth values.

    A `path` is met by its full form, by the form that begins with the name of the folder that was indexed, by the form
    within that folder, and (but for `<` and the like) by a path from the working folder. A `suffix` may be given
    without its dot. `modified` takes an ISO 8601 date or time (UTC unless it says more), where a year, a month or a day
    stands for all of it, or a number of seconds since 1970.

    Raises:
        ValueError: the key, the operator or the value cannot stand in a condition.
    """

    key: str
    operator: str
    value: Value | tuple[Value, ...]

    def __post_init__(self) -> None:
        """Refuse what could never match by mistake of the caller."""
        if not self.key or not self.key.strip():
            raise ValueError("the key of a condition is empty")
        if self.operator not in OPERATORS:
            raise ValueError(f"not an operator: {self.operator!r} (use one of {' '.join(OPERATORS)})")
        if (self.operator == "in") != isinstance(self.value, tuple | list):
            raise ValueError(f"{self.key} {self.operator}: 'in' takes several values, and all else takes one")
        if isinstance(self.value, list):
            object.__setattr__(self, "value", tuple(self.value))
        if self.key == "modified" and self.operator == "^=":
            raise ValueError("'modified' is a time: '^=' does not apply to it; write modified=2026-01 for a month")
        for text in (self.key, *(as_text(value) for value in self.values)):
            if "\0" in text or _surrogates(text):
                raise ValueError(f"{text!r} holds characters that no document can hold")
        for value in self.values if self.key == "modified" else ():
            _period(value)

    @property
    def values(self) -> tuple[Value, ...]:
        """The value, or those of `in`."""
        return self.value if isinstance(self.value, tuple) else (self.value,)

    @property
    def field(self) -> str | None:
        """The field of the metadata that is looked at, or None where it is the document itself."""
        if self.key.startswith(FIELD_PREFIX):
            return self.key.removeprefix(FIELD_PREFIX)
        return None if self.key in DOCUMENT_KEYS else self.key

    def __and__(self, other: Expression) -> AllOf:
        """Join with another filter; both have to hold."""
        return AllOf((self, other))

    def __or__(self, other: Expression) -> AnyOf:
        """Join with another filter; one of them has to hold."""
        return AnyOf((self, other))


@dataclass(frozen=True, slots=True)
class AllOf:
    """A filter that holds where all its parts do; without parts everywhere."""

    parts: tuple[Expression, ...]

    def __and__(self, other: Expression) -> AllOf:
        """Join with another filter; both have to hold."""
        return AllOf((*self.parts, other))

    def __or__(self, other: Expression) -> AnyOf:
        """Join with another filter; one of them has to hold."""
        return AnyOf((self, other))


@dataclass(frozen=True, slots=True)
class AnyOf:
    """A filter that holds where one of its parts does; without parts nowhere."""

    parts: tuple[Expression, ...]

    def __and__(self, other: Expression) -> AllOf:
        """Join with another filter; both have to hold."""
        return AllOf((self, other))

    def __or__(self, other: Expression) -> AnyOf:
        """Join with another filter; one of them has to hold."""
        return AnyOf((*self.parts, other))


Expression: TypeAlias = Condition | AllOf | AnyOf


def conditions(expression: Expression) -> Iterator[Condition]:
    """Yield the conditions of a filter in the order in which they stand."""
    if isinstance(expression, Condition):
        yield expression
    else:
        for part in expression.parts:
            yield from conditions(part)


class FilterSql:
    """The SQL of a filter over the table `documents`.

    Attributes:
        sql: an expression that is true of the documents that are meant.
        parameters: the values that are bound to it.
        fields: the fields of the metadata that it looks at.

    Raises:
        ValueError: the filter has more than `MOST_CONDITIONS` conditions.
    """

    def __init__(self, expression: Expression) -> None:
        """Write the SQL of `expression`."""
        found = list(conditions(expression))
        if len(found) > MOST_CONDITIONS:
            raise ValueError(
                f"a filter may have {MOST_CONDITIONS} conditions at most, this one has {len(found)}: use 'in'"
            )
        self.parameters: dict[str, str | int | float] = {}
        self.fields = tuple(dict.fromkeys(one.field for one in found if one.field is not None))
        self.sql = self._expression(expression)

    def _bound(self, value: str | int | float) -> str:
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return name

    def _test(self, left: str, operator: str, values: Sequence[str | int | float]) -> str:
        """Return the SQL of an operator on one column; `in` takes any number of values, all others one."""
        name = self._bound(json.dumps(values) if operator == "in" else values[0])
        return _TEST[operator].format(left=left, name=name)

    def _expression(self, expression: Expression) -> str:
        if isinstance(expression, Condition):
            operator = "=" if expression.operator == "!=" else expression.operator
            holds = self._condition(expression, operator)
            return f"NOT {holds}" if expression.operator == "!=" else holds
        parts = [self._expression(part) for part in expression.parts]
        if isinstance(expression, AllOf):
            return f"({' AND '.join(parts)})" if parts else "1"
        return f"({' OR '.join(parts)})" if parts else "0"

    def _condition(self, condition: Condition, operator: str) -> str:
        if condition.field is not None:
            return self._field(condition.field, operator, condition.values)
        if condition.key == "modified":
            times = [self._time("=" if operator == "in" else operator, value) for value in condition.values]
            return f"({' OR '.join(times)})" if times else "0"
        texts = [as_text(value) for value in condition.values]
        if condition.key == "suffix" and operator != "^=":
            texts = [text.lower() if text[:1] in ("", ".") else f".{text.lower()}" for text in texts]
        tests = [self._test(left, operator, texts) for left in _COLUMNS[condition.key]]
        if condition.key == "path" and operator in ("=", "^=", "in"):
            tests.append(self._test("documents.source", operator, [_from_here(text) for text in texts]))
        return f"({' OR '.join(tests)})"

    def _time(self, operator: str, value: Value) -> str:
        """A period `[first, end)` equals the times within it, and lies before those after it."""
        column, (first, end) = "documents.modified", _period(value)
        if first == end:
            return self._test(column, operator, [first])
        if operator == "=":
            return f"({self._test(column, '>=', [first])} AND {self._test(column, '<', [end])})"
        side = "<" if operator in ("<", "<=") else ">="
        return self._test(column, side, [first if operator in ("<", ">=") else end])

    def _field(self, field: str, operator: str, values: Sequence[Value]) -> str:
        texts = [as_text(value) for value in values]
        numbers = [number for value in values if (number := as_number(value)) is not None]
        if operator == "^=":
            on_number = self._test("CAST(field.atom AS TEXT)", operator, texts)
        else:
            on_number = self._test("field.atom", operator, numbers) if numbers else "0"
        return _FIELD.format(
            key=self._bound(field),
            text=self._test("field.atom", operator, texts),
            truth=self._test("field.type", operator, texts),
            number=on_number,
        )


def as_text(value: Value) -> str:
    """Return the text that a value is compared with stored text as."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_number(value: Value) -> int | float | None:
    """Return the number that `value` is or spells; integers beyond 64 bits become floats, as in SQLite's JSON."""
    if isinstance(value, bool) or (isinstance(value, str) and not _NUMBER.fullmatch(value)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    if not math.isfinite(number):
        return None
    if isinstance(value, int) or (isinstance(value, str) and _WHOLE.fullmatch(value)):
        whole = int(value)
        return whole if -(2**63) <= whole < 2**63 else number
    return number


def _period(value: Value) -> tuple[int | float, int | float]:
    """Return the time `[first, end)` in seconds since 1970 that a value stands for; an instant where both are equal."""
    text = as_text(value).strip()
    found = _PERIOD.fullmatch(text) if isinstance(value, str) else None
    number = as_number(value)
    try:
        if found is not None:
            return _calendar(*(int(part) if part else 0 for part in found.groups()))
        if number is not None and not isinstance(value, bool):
            return number, number
        moment = datetime.fromisoformat(text)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"not a time: {value!r} (a date such as 2026-01-31, a time such as 2026-01-31T12:00, "
            "a year, or seconds since 1970)"
        ) from error
    return seconds, seconds


def _calendar(year: int, month: int, day: int) -> tuple[float, float]:
    """Return first and end of a day, of a month (day 0) or of a year (month 0)."""
    first = datetime(year, month or 1, day or 1, tzinfo=UTC)
    if day:
        return first.timestamp(), (first + timedelta(days=1)).timestamp()
    months = year * 12 + (month or 1) - 1 + (1 if month else 12)
    return first.timestamp(), datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC).timestamp()


def _from_here(path: str) -> str:
    """Return a path that was given from the working folder in full; a "/" at its end stays."""
    try:
        full = (Path.cwd() / os.path.normpath(path)).as_posix() if path else path
    except OSError:  # the working folder is gone
        return path
    return full + "/" if path.endswith("/") and not full.endswith("/") else full


def _surrogates(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)
