"""Files into an index: what changed is read, cut into passages, encoded and committed in batches."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from odqa import settings
from odqa.errors import IngestError, SkippedFileError
from odqa.ingest.isolation import ParserProcess
from odqa.ingest.loaders import Record, read_records
from odqa.ingest.parsed import Parsed
from odqa.ingest.sources import STREAMED_SUFFIXES, SourceFile, discover, path_text, text_path
from odqa.protocols import Chunker, Encoder, PreparedDocument, TokenIds, TokenisedSpan, Vectors
from odqa.store.index import Index
from odqa.store.metadata_store import Lookup
from odqa.types import Document, IndexProgress, IndexReport, SkippedFile

_ENCODED_AT_ONCE = 2  # batches
_Cut = tuple[Document, list[TokenisedSpan], bool]  # a document, its passages, and whether it was there before


@dataclass(frozen=True, slots=True)
class _Encoding:
    """A batch of documents whose vectors are being made."""

    documents: list[_Cut]
    vectors: Future[Vectors]


class Indexer:
    """One run over some paths. Everything is committed every few hundred passages, so an interruption loses little.

    While two batches are encoded, each in a thread of its own, the one before them is stored and the next one is read.
    With one, the network would have little to do while a batch's last rows run, and nothing while the next one's words
    are tokenised.
    """

    def __init__(
        self,
        index: Index,
        *,
        encoder: Encoder,
        chunker: Chunker,
        strict: bool = False,
        progress: Callable[[IndexProgress], None] | None = None,
    ) -> None:
        """Prepare a run; `index` is open for writing."""
        self._index, self._encoder, self._chunker = index, encoder, chunker
        self._strict, self._progress = strict, progress
        self._pending: list[_Cut] = []
        self._pending_passages = 0
        self._encoding: deque[_Encoding] = deque()
        self._encoders = ThreadPoolExecutor(_ENCODED_AT_ONCE, thread_name_prefix="odqa-encode")
        self._added: list[str] = []
        self._updated: list[str] = []
        self._skipped: list[SkippedFile] = []
        self._partial: list[SkippedFile] = []
        self._seen = _Seen(index.last_document())
        self._visited: set[str] = set()  # of the files that hold records; any other file is its one record
        self._unchanged = self._passages = 0
        self._bytes_done = self._bytes_of_file = self._bytes_total = 0  # on disk; of_file: of the one being read

    def run(self, paths: Sequence[Path], *, prune: bool, follow_links: bool = False) -> IndexReport:
        """Index `paths` and say what was done.

        Raises:
            IngestError: a path does not exist.
            SkippedFileError: a file was skipped while `strict` was asked for.
        """
        began = time.perf_counter()
        walk = partial(discover, paths, follow_links=follow_links)
        # Walked twice: to keep all names in mind would take more memory than anything else here.
        self._bytes_total = sum(source.size_bytes for source in walk() if isinstance(source, SourceFile))
        with self._encoders:
            with self._index.lookup() as find, ParserProcess() as parser:
                for source in walk():
                    if isinstance(source, SkippedFile):
                        self._skip(source)
                    else:
                        self._take(source, find, parser.parse)
            self._finish()
        vanished = list(self._vanished(paths))
        pruned = self._index.delete(vanished) if prune else []
        self._index.refresh_snapshot()
        return IndexReport(
            added=tuple(self._added),
            updated=tuple(self._updated),
            unchanged=self._unchanged,
            vanished=() if prune else tuple(vanished),
            pruned=tuple(pruned),
            skipped=tuple(self._skipped),
            passages=self._passages,
            seconds=time.perf_counter() - began,
            partial=tuple(self._partial),
        )

    def _skip(self, skipped: SkippedFile) -> None:
        if self._strict:
            self._finish()
            raise SkippedFileError(f"{skipped.source}: {skipped.reason} (--strict stops at the first such file)")
        self._skipped.append(skipped)

    def _take(self, source: SourceFile, find: Lookup, parse: Callable[[str, bytes], Parsed]) -> None:
        if source.suffix in STREAMED_SUFFIXES:
            self._visited.add(source.location)
        self._report(source.location)
        for record in read_records(source, parse=parse):
            if isinstance(record, SkippedFile):
                self._skip(record)
            else:
                self._take_record(record, find(record.source.location, record.record))
        self._bytes_done += source.size_bytes
        self._bytes_of_file = 0
        self._report(source.location)

    def _take_record(self, record: Record, known: tuple[int, str] | None) -> None:
        """Put a record into the batch if it is new or has changed; `known` is its document and that one's hash."""
        if known is not None:
            self._seen.add(known[0])
            if known[1] == record.content_hash:
                self._unchanged += 1
                return
        try:
            document = record.load(lambda missing: self._partial.append(SkippedFile(record.source.location, missing)))
        except IngestError as error:
            location = record.source.location
            self._skip(SkippedFile(f"{location}#{record.record}" if record.record else location, str(error)))
            return
        passages = self._chunker.cut(document.text, title=document.title, sections=document.sections)
        self._pending.append((document, passages, known is not None))
        self._pending_passages += len(passages)
        if self._pending_passages >= settings.COMMIT_PASSAGES:
            self._commit()
            # The file may have grown since it was found; it never counts for more than its share.
            self._bytes_of_file = min(record.bytes_read, record.source.size_bytes)
            self._report(record.source.location)

    def _commit(self) -> None:
        """Let the pending documents be encoded together, and store those that are due in one transaction."""
        if not self._pending:
            return
        pending, texts, titles, ids = self._pending, [], [], []
        for document, passages, _ in pending:
            texts += [passage.span.of(document.text) for passage in passages]
            titles += [document.title] * len(passages)
            ids += [passage.ids for passage in passages]
        self._encoding.append(_Encoding(pending, self._encoders.submit(self._encode, texts, titles, ids)))
        self._pending, self._pending_passages = [], 0
        if len(self._encoding) > _ENCODED_AT_ONCE:
            self._store(self._encoding.popleft())

    def _finish(self) -> None:
        """Encode and store all that is left."""
        self._commit()
        while self._encoding:
            last = self._encoding.popleft()
            self._store(last)
            self._report(last.documents[-1][0].source)

    def _store(self, encoded: _Encoding) -> None:
        vectors, prepared, at = encoded.vectors.result(), [], 0
        for document, passages, _ in encoded.documents:
            spans = tuple(passage.span for passage in passages)
            prepared.append(PreparedDocument(document, spans, vectors[at : at + len(spans)]))
            at += len(spans)
        ids = self._index.write(prepared)
        for doc_id, (_, _, is_update) in zip(ids, encoded.documents, strict=True):
            (self._updated if is_update else self._added).append(doc_id)
        self._passages += len(vectors)

    def _encode(self, texts: list[str], titles: list[str], ids: list[TokenIds]) -> Vectors:
        """Encode in slices, so that the rows of a document of ten thousand passages are not held all at once."""
        size = 4 * settings.COMMIT_PASSAGES
        vectors = np.empty((len(texts), self._encoder.identity.width), dtype=np.float32)
        for at in range(0, len(texts), size):
            part = slice(at, at + size)
            vectors[part] = self._encoder.encode_passages(texts[part], titles=titles[part], ids=ids[part])
        return vectors

    def _vanished(self, paths: Sequence[Path]) -> Iterator[str]:
        """Yield the documents of `paths` whose file or record is gone for certain.

        What could not be read is not gone: a skipped file, the files of a folder that could not be listed, and the
        records of a file with a bad line, which may be any of them. Nor is a file that the walk leaves out (one in a
        hidden folder that was given by name before).
        """
        unread = {one.source for one in self._skipped}
        unread |= {source.rpartition(":line ")[0] for source in unread}
        named: set[str] = set()
        for path in paths:
            for document_pk, doc_id, source, _record in self._index.documents_under(path_text(path.resolve())):
                if document_pk in self._seen or doc_id in named or not unread.isdisjoint(_and_above(source)):
                    continue
                if source in self._visited or not _in_its_place(source):
                    named.add(doc_id)
                    yield doc_id

    def _report(self, current: str) -> None:
        if self._progress is not None:
            documents = len(self._added) + len(self._updated) + self._unchanged
            done = self._bytes_done + self._bytes_of_file
            self._progress(IndexProgress(documents, self._passages, done, self._bytes_total, current))


class _Seen:
    """The documents that were met in a run: one bit for each that was there before; `last` is the highest of those."""

    def __init__(self, last: int) -> None:
        self._last = last
        self._bits = bytearray(last // 8 + 1)

    def add(self, document_pk: int) -> None:
        if document_pk <= self._last:
            self._bits[document_pk // 8] |= 1 << document_pk % 8

    def __contains__(self, document_pk: int) -> bool:
        """Tell whether a document was met, or written in this run."""
        return document_pk > self._last or bool(self._bits[document_pk // 8] >> document_pk % 8 & 1)


def _and_above(source: str) -> Iterator[str]:
    """Yield a file's location and those of the folders above it."""
    while source:
        yield source
        source = source.rpartition("/")[0]


def _in_its_place(source: str) -> bool:
    """Tell whether a regular file lies at its location, not a link to another one."""
    path = text_path(source)
    return os.path.isfile(path) and not os.path.islink(path)  # noqa: PTH113, PTH114
