"""Does the full-text index hold what the passages say? It keeps no text, so it is built a second time and compared.

FTS5 does not notice when a row was deleted with another text than it was inserted with, or when a page of it was
damaged within its structure. So every passage goes through the same tokenizer again, into a temporary table, and the
two are compared: the number of tokens of every passage, and of every term in how many passages it stands and how often.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from odqa.errors import DamagedIndexError
from odqa.store.schema import FTS_ARGUMENTS, Transaction, sql, translated_errors
from odqa.store.walk import StoredDocument

_BATCH_ROWS = 500
_TEMPORARY = (
    f"CREATE VIRTUAL TABLE temp.check_fts USING fts5({FTS_ARGUMENTS})",
    "CREATE VIRTUAL TABLE temp.stored_terms USING fts5vocab(main, passages_fts, col)",
    "CREATE VIRTUAL TABLE temp.true_terms USING fts5vocab(temp, check_fts, col)",
)
_INSERT = sql("INSERT INTO temp.check_fts (rowid, title, text) VALUES (:rowid, :title, :text)")
_INTEGRITY = sql("INSERT INTO passages_fts (passages_fts) VALUES ('integrity-check')")
_MISSING = sql("SELECT count(*) FROM passages WHERE passage_id NOT IN (SELECT id FROM passages_fts_docsize)")
_FOREIGN = sql("SELECT count(*) FROM passages_fts_docsize WHERE id NOT IN (SELECT passage_id FROM passages)")
_LENGTHS = sql(
    "SELECT count(*) FROM main.passages_fts_docsize AS stored JOIN temp.check_fts_docsize AS anew USING (id)"
    " WHERE stored.sz != anew.sz"
)
# The record of totals: an index that never held a row has an empty one, an emptied index three zeros.
_TOTALS = sql(
    "SELECT (SELECT ifnull(nullif(block, x''), x'000000') FROM main.passages_fts_data WHERE id = 1) IS NOT"
    " (SELECT ifnull(nullif(block, x''), x'000000') FROM temp.check_fts_data WHERE id = 1)"
)
_STORED_TERMS = sql("SELECT term, col, doc, cnt FROM temp.stored_terms ORDER BY term, col")
_TRUE_TERMS = sql("SELECT term, col, doc, cnt FROM temp.true_terms ORDER BY term, col")


class FullTextCheck:
    """A second full-text index of the passages, in SQLite's temporary file; gone when the transaction is rolled back.

    Args:
        connection: a write transaction that will not be committed.
        path: the `odqa.sqlite`.
    """

    def __init__(self, connection: Transaction, path: Path) -> None:
        """Make the temporary tables."""
        self._connection, self._path = connection, path
        self._rows: list[dict[str, Any]] = []
        self._whole = True
        for statement in _TEMPORARY:
            connection.execute(sql(statement))

    def add(self, document: StoredDocument, text: str) -> None:
        """Take the passages of a document in."""
        self._rows += document.fts_rows(text)
        if len(self._rows) >= _BATCH_ROWS:
            self._flush()

    def leave_out(self) -> None:
        """Note that the text of a document cannot be known, so that terms cannot be compared."""
        self._whole = False

    def problems(self) -> list[tuple[str, str]]:
        """Compare; return (kind, detail) of what differs."""
        self._flush()
        try:
            with translated_errors(self._path):
                return self._differences()
        except DamagedIndexError:
            return [("full-text-structure", "its pages contradict each other")]

    def _differences(self) -> list[tuple[str, str]]:
        execute, found = self._connection.execute, []
        execute(_INTEGRITY)
        missing, foreign = execute(_MISSING).scalar_one(), execute(_FOREIGN).scalar_one()
        if missing or foreign:
            detail = f"{missing} passages are missing, {foreign} are there that are no passages"
            found.append(("full-text-rows", detail))
        lengths = execute(_LENGTHS).scalar_one()
        if lengths:
            found.append(("full-text-words", f"{lengths} passages have another number of words"))
        elif self._whole and not found:
            found += self._terms()
        return found

    def _terms(self) -> list[tuple[str, str]]:
        stored = self._connection.execute(_STORED_TERMS)
        true = self._connection.execute(_TRUE_TERMS)
        for one in stored:
            other = true.fetchone()
            if other is None or tuple(one) != tuple(other):
                shown = repr(one[0] if other is None else min(one[0], other[0]))
                return [("full-text-words", f"the word {shown} stands in other passages than the index says")]
        if true.fetchone() is not None or self._connection.execute(_TOTALS).scalar_one():
            return [("full-text-words", "words are missing, or miscounted")]
        return []

    def _flush(self) -> None:
        if self._rows:
            self._connection.execute(_INSERT, self._rows)
            self._rows = []
