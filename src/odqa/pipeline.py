"""The whole path: open an index, put documents in, take them out, search, ask. The only file that knows all rooms."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from odqa import settings
from odqa.ahead import groups, one_ahead
from odqa.errors import IndexMismatchError, NoIndexError, UnknownModelError
from odqa.models import registry
from odqa.protocols import Encoder, EncoderIdentity
from odqa.reader.extractive import ExtractiveReader, load_reader
from odqa.reader.merge import Calibration, accepted
from odqa.reader.omz import is_omz, omz_answers
from odqa.reader.stages import read_answers
from odqa.retriever.encoder import load_encoder
from odqa.retriever.hybrid import HybridRetriever
from odqa.store.filters import Expression
from odqa.store.index import Index, IndexIdentity
from odqa.store.where import Where, read_where
from odqa.types import (
    Answer,
    Document,
    IndexProgress,
    IndexReport,
    IndexStatus,
    QueryResult,
    RetrievedPassage,
)
from odqa.upkeep import check, compact

__all__ = ["QuestionAnswering", "check", "compact", "open"]

_Retrieved = list[tuple[RetrievedPassage, ...]]  # of each question


def open(  # noqa: A001 - `odqa.open` reads as `gzip.open` does
    index_dir: Path | str | None = None,
    *,
    encoder: str | None = None,
    reader: str | None = None,
    writable: bool = False,
    create: bool = False,
    wait_seconds: float = 0.0,
) -> QuestionAnswering:
    """Open an index to ask questions of it, or to write to it.

    Args:
        index_dir: Folder of the index; None takes `ODQA_INDEX_DIR`, else `indexes/default`.
        encoder: Name of the encoder; None takes `ODQA_ENCODER`, else the one that made the index, else the bundled one.
        reader: Name of the reader; None takes `ODQA_READER`, else the bundled one.
        writable: Take the writer's lock, so that documents can be put in and deleted.
        create: Make the index if the folder holds none; implies `writable`.
        wait_seconds: How long to wait for another writer; 0 raises at once.

    Raises:
        NoIndexError: the folder holds no index, and `create` is false.
        IndexMismatchError: the index was made by another encoder or a newer version.
        LockedIndexError: another process is writing, and did not end within `wait_seconds`.
        DamagedIndexError: the SQLite file cannot be read.
        UnknownModelError: no model has this name.
        ModelError: a reader was named as the encoder, or the other way round.
        MissingModelError: the encoder of a new index has not been pulled.
    """
    folder = settings.index_dir(index_dir)
    encoder = settings.encoder_name(encoder)
    reader_spec = registry.find(settings.reader_name(reader), task=registry.READ)
    asked = _identity(encoder) if encoder else None
    try:
        index = _open_index(folder, asked, writable=writable or create, wait_seconds=wait_seconds)
    except NoIndexError:
        if not create:
            raise
        registry.need_here(registry.find(encoder or settings.DEFAULT_ENCODER))  # before a folder is made for it
        try:
            index = Index.create(folder, asked or _identity(settings.DEFAULT_ENCODER), wait_seconds=wait_seconds)
        except IndexMismatchError:  # another process made it while this one waited
            index = _open_index(folder, asked, writable=True, wait_seconds=wait_seconds)
    return QuestionAnswering(index, reader=reader_spec)


def _open_index(folder: Path, asked: IndexIdentity | None, *, writable: bool, wait_seconds: float) -> Index:
    """Open an index that fits what was asked for, else its own encoder, which must be the very files that made it.

    What does not fit is found before anything is locked or written.
    """
    if asked is None:
        with Index.open(folder) as index:
            asked = _own_identity(index)
    return Index.open(folder, writable=writable, expected=asked, wait_seconds=wait_seconds)


def _own_identity(index: Index) -> IndexIdentity:
    name = index.identity.encoder.name
    try:
        return _identity(name)
    except UnknownModelError as error:
        raise IndexMismatchError(
            f"the index in {index.folder} was made by encoder {name!r}, which this odqa does not have: import that "
            "model again, use the version of odqa that made the index, or index the documents again into another folder"
        ) from error


def _identity(encoder: str) -> IndexIdentity:
    spec = registry.find(encoder, task=registry.ENCODE)
    identity = EncoderIdentity(spec.name, spec.revision, spec.checksum, spec.width)
    return IndexIdentity(identity, settings.PASSAGE_TOKENS, settings.TITLE_TOKENS)


class QuestionAnswering:
    """An open index with its models. Models are loaded when they are first needed. Safe to query from many threads."""

    def __init__(self, index: Index, *, reader: registry.ModelSpec) -> None:
        """Take over an open index; `close` closes it. Use `odqa.open` instead."""
        self._index = index
        self._reader_spec = reader
        self._encoder: Encoder | None = None
        self._readers: dict[str, ExtractiveReader] = {}
        self._loading_encoder, self._loading_reader = threading.Lock(), threading.Lock()

    def __enter__(self) -> QuestionAnswering:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the index."""
        self.close()

    def close(self) -> None:
        """Close the index and give the lock back; may be called twice."""
        self._index.close()

    @property
    def notices(self) -> tuple[str, ...]:
        """What happened at opening that a person should know, such as a damaged cache that was made anew."""
        return self._index.notices

    @property
    def calibration(self) -> Calibration:
        """The reader's calibration, whose `threshold` decides between an answer and none."""
        return self._reader_spec.calibration

    @property
    def encoder(self) -> Encoder:
        """The encoder that made the index; loaded at first use.

        Raises:
            DamagedModelError: a file of the model is missing or is not the right one.
        """
        self._index.usable()
        with self._loading_encoder:
            if self._encoder is None:
                self._encoder = load_encoder(self._index.identity.encoder.name)
            return self._encoder

    @property
    def reader(self) -> ExtractiveReader:
        """The reader; loaded at first use. Raises DamagedModelError as `encoder` does."""
        return self._loaded(self._reader_spec)

    def _loaded(self, spec: registry.ModelSpec) -> ExtractiveReader:
        self._index.usable()
        with self._loading_reader:
            if spec.name not in self._readers:
                self._readers[spec.name] = load_reader(spec.name)
            return self._readers[spec.name]

    def _load_beside(self, spec: registry.ModelSpec) -> None:
        """Let a reader load and warm up beside the search; what goes wrong is told by the call that needs it."""

        def load() -> None:
            with contextlib.suppress(Exception):
                self._loaded(spec).warm_up()

        if spec.name not in self._readers:
            threading.Thread(target=load).start()  # no daemon: an interpreter must not end amid native code

    # ---- reading -----------------------------------------------------------------------------------------------

    def search(
        self, question: str, *, top_k: int = settings.TOP_K, mode: str = settings.DEFAULT_MODE, where: Where = ()
    ) -> tuple[RetrievedPassage, ...]:
        """Return the best passages for a question, best first, without reading answers out of them.

        Args:
            question: Any text that is not blank.
            top_k: Number of passages, at least 1.
            mode: "hybrid", "dense" or "text".
            where: Filters such as "year>=1900 and suffix=.pdf", all of which must hold; see docs/cli.md.

        Raises:
            ValueError: a blank question, `top_k` below 1, an unknown mode, or a filter that is malformed or looks at
                a field that no document has.
            NoIndexError: the index holds no documents.
        """
        return self.search_many([question], top_k=top_k, mode=mode, where=where)[0]

    def search_many(
        self,
        questions: Sequence[str],
        *,
        top_k: int = settings.TOP_K,
        mode: str = settings.DEFAULT_MODE,
        where: Where = (),
    ) -> _Retrieved:
        """Search for several questions at once; arguments and errors are those of `search`."""
        return self._retrieve(questions, top_k=top_k, mode=mode, where=read_where(where))

    def query(
        self,
        question: str,
        *,
        top_k: int = settings.TOP_K,
        n_best: int = settings.N_BEST,
        mode: str = settings.DEFAULT_MODE,
        where: Where = (),
        threshold: float | None = None,
        profile: str = settings.DEFAULT_PROFILE,
        reader: str | None = None,
        read_all: bool = False,
    ) -> QueryResult:
        """Answer a question from the documents.

        Args:
            question: Any text that is not blank; very long ones are cut to what the models take.
            top_k: Passages to look for answers in, at least 1.
            n_best: Most answers to return, at least 1; there may be fewer, of a sure question above all.
            mode: "hybrid", "dense" or "text".
            where: Filters that the documents must meet.
            threshold: Least probability of an answer, in [0, 1]; None takes the reader's own.
            profile: "default", or "omz" to read and score as the Open Model Zoo's demo does (`odqa.reader.omz`), for
                comparison: the best span of a window by its own softmax, and never "no answer".
            reader: Name of another reader than the index was opened with; it stays loaded until `close`.
            read_all: Read every passage, and whole, not only those that may hold a better answer than those before
                them and their best part; takes longer, and finds more places of an answer and more other answers.

        Raises:
            ValueError: a blank question, `top_k` or `n_best` below 1, an unknown mode or profile, a threshold for
                "omz", or a filter that is malformed or looks at a field that no document has.
            NoIndexError: the index holds no documents.
            ModelError: there is no such reader, or it has not been pulled, or is damaged.
        """
        ways = {"mode": mode, "where": where, "threshold": threshold, "profile": profile, "reader": reader}
        found = self.query_many([question], top_k=top_k, n_best=n_best, read_all=read_all, **ways)  # type: ignore[arg-type]
        return next(found)

    def query_many(
        self,
        questions: Iterable[str],
        *,
        top_k: int = settings.TOP_K,
        n_best: int = settings.N_BEST,
        mode: str = settings.DEFAULT_MODE,
        where: Where = (),
        threshold: float | None = None,
        profile: str = settings.DEFAULT_PROFILE,
        reader: str | None = None,
        read_all: bool = False,
        batch: int = settings.QUESTION_BATCH,
    ) -> Iterator[QueryResult]:
        """Answer questions in batches, in order: faster than one at a time. `seconds` is a question's share.

        Arguments and errors are those of `query`; `batch` is the number of questions taken together. Of a sequence,
        passages are looked for one batch ahead, in a thread; an iterator is taken no sooner than it is needed.
        """
        for name, value in (("n_best", n_best), ("top_k", top_k), ("batch", batch)):
            if value < 1:
                raise ValueError(f"{name} is {value}: it has to be at least 1")
        if threshold is not None and not 0.0 <= threshold <= 1.0:
            raise ValueError(f"threshold is {threshold}: a probability lies between 0 and 1")
        as_omz = is_omz(profile, threshold)
        spec = registry.find(reader, task=registry.READ) if reader else self._reader_spec
        least = 0.0 if as_omz else spec.calibration.threshold if threshold is None else threshold
        expression = read_where(where)
        registry.need_here(spec)  # before passages are looked for

        def results() -> Iterator[QueryResult]:
            self._load_beside(spec)
            # The probability looks at more passages than a small `top_k` asks for.
            retrieve = partial(self._retrieve, top_k=max(top_k, settings.LEAD_PASSAGES), mode=mode, where=expression)
            read = partial(read_answers, calibration=spec.calibration, n_best=n_best, read_all=read_all, top_k=top_k)
            known = isinstance(questions, Sequence)  # an iterator may need an answer before it has a next question
            began = time.perf_counter()
            for group, retrieved in one_ahead(retrieve, groups(questions, batch), ahead=known):
                first = [passages[:top_k] for passages in retrieved]
                if as_omz:
                    found = self._read_as_omz(spec, group, first, n_best=n_best)
                else:
                    found = read(self._loaded(spec), group, retrieved)
                seconds = (time.perf_counter() - began) / len(group)
                for question, best, passages in zip(group, found, first, strict=True):
                    yield QueryResult(question, accepted(best, threshold=least), best, passages, seconds)
                began = time.perf_counter()

        return results()

    def _read_as_omz(
        self, spec: registry.ModelSpec, questions: Sequence[str], retrieved: _Retrieved, *, n_best: int
    ) -> list[tuple[Answer, ...]]:
        texts = [[found.passage.text for found in passages] for passages in retrieved]
        spans = self._loaded(spec).read_as_omz(questions, texts)
        return [omz_answers(read, passages, n_best=n_best) for read, passages in zip(spans, retrieved, strict=True)]

    def _retrieve(self, questions: Sequence[str], *, top_k: int, mode: str, where: Expression | None) -> _Retrieved:
        if where is not None:
            self._need_passages()  # an index without documents has no fields that a filter could look at
        # Full text needs no vectors, so the encoder is not loaded for it.
        retriever = HybridRetriever(self._index, self.encoder if mode != "text" else None)
        with self._index.one_state():
            found = retriever.retrieve(questions, top_k=top_k, mode=mode, allowed=self._index.allowed(where))
        if not all(found):
            self._need_passages()
        return found

    def _need_passages(self) -> None:
        if not self._index.holds_passages():
            folder = self._index.folder
            raise NoIndexError(
                f"the index {folder} is empty: put documents in with `odqa index FOLDER --index-dir {folder}`"
            )

    def document(self, doc_id: str) -> Document | None:
        """Return a stored document with its whole text, or None."""
        return self._index.document(doc_id)

    def doc_ids(self) -> list[str]:
        """Return the ids of all documents, in order."""
        return self._index.doc_ids()

    def status(self) -> IndexStatus:
        """Return what the index holds and what made it."""
        return self._index.status()

    # ---- writing -----------------------------------------------------------------------------------------------

    def index(
        self,
        paths: Sequence[Path | str],
        *,
        prune: bool = False,
        strict: bool = False,
        follow_links: bool = False,
        vector_index: str | None = None,
        progress: Callable[[IndexProgress], None] | None = None,
    ) -> IndexReport:
        """Put files and folders into the index; what has not changed since the last time is left alone.

        Args:
            paths: Files, or folders that are gone through recursively.
            prune: Remove documents of these paths whose file or record is gone.
            strict: Raise at the first file that would be skipped.
            follow_links: Follow symbolic links out of the folders, too; else nothing outside them is read.
            vector_index: Type of vector index from now on: "auto" (by size), "flat" or "binary"; None leaves it.
            progress: Called after each file and batch.

        Raises:
            IngestError: a path does not exist.
            SkippedFileError: a file was skipped under `strict`; what was committed before stays.
            ValueError: `ODQA_FILE_SECONDS` or `ODQA_FILE_MEMORY_MB` is not a number above 0, or there is no such type
                of vector index.
        """
        if vector_index is not None:
            self._index.choose_vector_index(vector_index)
        from odqa.indexing import Indexer  # only now: questions need none of what reads files
        from odqa.ingest.chunker import PassageChunker

        chunker = PassageChunker(self.encoder.tokenizer)
        indexer = Indexer(self._index, encoder=self.encoder, chunker=chunker, strict=strict, progress=progress)
        return indexer.run([Path(path) for path in paths], prune=prune, follow_links=follow_links)

    def delete(self, doc_ids: Sequence[str]) -> list[str]:
        """Remove documents and return the ids of those that were there. Their text can never be found again."""
        if deleted := self._index.delete(doc_ids):
            self._index.refresh_snapshot()
        return deleted
