"""Conditions on documents: `year>=2020`, `source^=/manuals/`, `language=en`; and their SQL."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

Value = str | int | float | bool

OPERATORS = ("^=", "!=", "<=", ">=", "=", "<", ">")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_CONDITION = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_.-]*)\s*(\^=|!=|<=|>=|=|<|>)(.*)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_TEXT_COLUMNS = {"doc_id": "doc_id", "title": "title", "source": "source", "path": "source", "suffix": "suffix"}

# The SQL of every operator: nothing that a caller wrote becomes part of a statement.
_SQL = {
    "=": "{left} = :{name}",
    "!=": "{left} != :{name}",
    "<": "{left} < :{name}",
    "<=": "{left} <= :{name}",
    ">": "{left} > :{name}",
    ">=": "{left} >= :{name}",
    "^=": "substr({left}, 1, length(:{name})) = :{name}",
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition on the documents whose passages may be found.

    Attributes:
        key: `doc_id`, `title`, `source` (or `path`), `suffix`, `modified`, else a field of the metadata.
        operator: one of `=`, `!=`, `<`, `<=`, `>`, `>=`, and `^=` (begins with).
        value: compared as a number when it and the stored value are numbers (text that spells a number counts for the
            condition, not for the stored value), else as text by code points; `true` and `false` are the texts of
            truth values. For `modified` a number of seconds since 1970 or an ISO 8601 date (UTC unless it says more).

    A document without the field, or with null in it, satisfies no condition on it, `!=` neither.

    Raises:
        ValueError: the key, the operator or the value cannot stand in a condition.
    """

    key: str
    operator: str
    value: Value

    def __post_init__(self) -> None:
        """Refuse what could never match by mistake of the caller."""
        if not _KEY.fullmatch(self.key):
            raise ValueError(f"not a key of a condition: {self.key!r} (letters, digits, '_', '.', '-' only)")
        if self.operator not in OPERATORS:
            raise ValueError(f"not an operator: {self.operator!r} (use one of {' '.join(OPERATORS)})")
        if self.key == "modified":
            if self.operator == "^=":
                raise ValueError("'modified' is a time: '^=' does not apply to it")
            _seconds(self.value)


def parse_condition(text: str) -> Condition:
    """Read a condition such as `year>=2020`; blanks around key and value do not count.

    Raises:
        ValueError: `text` is not of the form KEY OPERATOR VALUE.
    """
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise ValueError(
            f"not a condition: {text!r} (write KEY=VALUE; also !=, <, <=, >, >=, and ^= for 'begins with')"
        )
    return Condition(match[1], match[2], match[3].strip())


def conditions_sql(conditions: Sequence[Condition]) -> tuple[str, dict[str, str | int | float]]:
    """Return an SQL expression over the table `documents` that holds where all conditions do, and its parameters."""
    parts: list[str] = []
    parameters: dict[str, str | int | float] = {}

    def bound(value: str | int | float) -> str:
        name = f"p{len(parameters)}"
        parameters[name] = value
        return name

    for condition in conditions:
        if condition.key in _TEXT_COLUMNS:
            left = f"documents.{_TEXT_COLUMNS[condition.key]}"
            parts.append(_SQL[condition.operator].format(left=left, name=bound(_as_text(condition.value))))
        elif condition.key == "modified":
            name = bound(_seconds(condition.value))
            parts.append(_SQL[condition.operator].format(left="documents.modified", name=name))
        else:
            parts.append(_field_sql(condition, bound))
    return " AND ".join(f"({part})" for part in parts) or "1", parameters


def _field_sql(condition: Condition, bound: Callable[[str | int | float], str]) -> str:
    path = bound(f'$."{condition.key}"')
    kind = f"json_type(documents.metadata, :{path})"
    value = f"json_extract(documents.metadata, :{path})"
    as_text = f"CASE {kind} WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST({value} AS TEXT) END"
    text_sql = _SQL[condition.operator].format(left=f"({as_text})", name=bound(_as_text(condition.value)))
    number = _as_number(condition.value)
    if number is None or condition.operator == "^=":
        return text_sql
    number_sql = _SQL[condition.operator].format(left=value, name=bound(number))
    return f"CASE WHEN {kind} IN ('integer', 'real') THEN {number_sql} ELSE {text_sql} END"


def _as_text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _as_number(value: Value) -> int | float | None:
    """Return the number that `value` is or spells; integers beyond 64 bits become floats, as in SQLite's JSON."""
    if isinstance(value, bool) or (isinstance(value, str) and not _NUMBER.fullmatch(value)):
        return None
    number = float(value)
    if not math.isfinite(number):
        return None
    if isinstance(value, int) or (isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value)):
        whole = int(value)
        return whole if -(2**63) <= whole < 2**63 else number
    return number


def _seconds(value: Value) -> int | float:
    number = _as_number(value)
    if number is not None:
        return number
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise ValueError(f"not a time: {value!r} (seconds since 1970, or a date such as 2026-01-31)") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
