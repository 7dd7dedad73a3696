"""Files -> records -> documents."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from odqa import settings
from odqa.errors import IngestError
from odqa.ingest import jsonl, parsers, steady
from odqa.ingest.parsed import MAX_TITLE_CHARACTERS, Parsed, one_line, shortened
from odqa.ingest.sources import SourceFile, os_reason, path_text
from odqa.types import Document, SkippedFile

_BECAME_A_LINK = "it became a symbolic link after it was found"


class Load(Protocol):
    """Parses the bytes of a record."""

    def __call__(self, on_missing: Callable[[str], None] = ..., /) -> Document:
        """Make the document; `on_missing` is told of the part that could not be read, if there is one.

        Raises:
            IngestError: The bytes cannot be parsed; the message says why.
        """
        ...


def _ignore(missing: str) -> None:
    """Take no note of what is missing."""


@dataclass(frozen=True, slots=True)
class Record:
    """Something that becomes one document: a whole file, or one line of JSON lines.

    `record` is "" for whole files, else the record's id. `content_hash` is the SHA-256 (hex) of the file's bytes, or
    of the line's bytes without line end. `load` parses just these bytes, not before it is called, so that unchanged
    records cost no parsing; it raises `IngestError` with the reason when they cannot be parsed. A record keeps its
    bytes in memory: let go of it before the next one. `bytes_read` says how far the file (as it lies on disk, so
    compressed bytes where it is compressed) has been read with this record.
    """

    source: SourceFile
    record: str
    content_hash: str
    load: Load
    bytes_read: int = 0


def read_records(
    source: SourceFile, *, parse: Callable[[str, bytes], Parsed] = parsers.parse
) -> Iterator[Record | SkippedFile]:
    """Read a file, once, and yield what it holds: one record, or one for each line of JSON lines.

    What cannot be read is yielded as a `SkippedFile` with the reason; a bad line is named by its number, as
    `location:line 12`. No error is raised for bad input. A file that changed its kind since it was found (into a pipe,
    say) is not waited for.

    Args:
        source: The file.
        parse: Parses the bytes of a file with this suffix; `ParserProcess.parse` where files are not to be trusted.

    Raises:
        ValueError: No parser knows the suffix, which `discover` never yields.
    """
    compressed = source.suffix == ".jsonl.gz"
    if compressed or source.suffix == ".jsonl":
        return _json_records(source, compressed=compressed)
    if source.suffix not in parsers.PARSERS:
        raise ValueError(f"no parser for the suffix {source.suffix!r}; known are {' '.join(parsers.PARSERS)}")
    return _whole_file(source, parse)


def _whole_file(source: SourceFile, parse: Callable[[str, bytes], Parsed]) -> Iterator[Record | SkippedFile]:
    try:
        data = steady.read_whole(lambda: _open(source.path), most=settings.MAX_FILE_BYTES + 1)
    except OSError as error:
        yield SkippedFile(source=source.location, reason=f"cannot be read: {os_reason(error)}")
        return
    if len(data) > settings.MAX_FILE_BYTES:
        reason = f"too large: it grew beyond {settings.MAX_FILE_BYTES} bytes after it was found"
        yield SkippedFile(source=source.location, reason=reason)
        return
    content_hash = hashlib.sha256(data).hexdigest()

    def load(on_missing: Callable[[str], None] = _ignore, /) -> Document:
        parsed = parse(source.suffix, data)
        if parsed.missing:
            on_missing(parsed.missing)
        return _document(source, parsed, record="", content_hash=content_hash, title=parsed.title or _stem(source))

    yield Record(source=source, record="", content_hash=content_hash, load=load, bytes_read=len(data))


def _json_records(source: SourceFile, *, compressed: bool) -> Iterator[Record | SkippedFile]:
    seen: set[str] = set()
    try:
        with closing(_open(source.path)) as stream:
            version = steady.version(stream)
            for line in jsonl.read_lines(stream, compressed=compressed):
                try:
                    found = jsonl.parse_line(line)
                    if found.record in seen:
                        raise IngestError(f'the id "{found.record}" stands on an earlier line already')
                except IngestError as error:
                    yield SkippedFile(source=f"{source.location}:line {line.number}", reason=shortened(str(error)))
                    continue
                seen.add(found.record)
                yield _json_record(source, found, hashlib.sha256(line.data).hexdigest(), bytes_read=stream.tell())
            if steady.version(stream) != version:  # lines may be of two versions, and a line itself half of each
                yield SkippedFile(source=source.location, reason=steady.CHANGES)
    except OSError as error:
        yield SkippedFile(source=source.location, reason=f"cannot be read: {os_reason(error)}")


def _json_record(source: SourceFile, found: jsonl.JsonRecord, content_hash: str, *, bytes_read: int) -> Record:
    def load(_: Callable[[str], None] = _ignore, /) -> Document:
        parsed = Parsed(title=found.title, text=found.text, metadata=found.metadata)
        return _document(source, parsed, record=found.record, content_hash=content_hash, title=found.title)

    return Record(source=source, record=found.record, content_hash=content_hash, load=load, bytes_read=bytes_read)


def _document(source: SourceFile, parsed: Parsed, *, record: str, content_hash: str, title: str) -> Document:
    """Make a document; the store may choose another `doc_id` when this one is taken."""
    root = path_text(Path(source.root.name)) if source.root.name else ""
    doc_id = f"{root}/{source.relative}" if root else source.relative
    return Document(
        doc_id=f"{doc_id}#{record}" if record else doc_id,
        title=shortened(title, most=MAX_TITLE_CHARACTERS),
        text=parsed.text,
        source=source.location,
        record=record,
        suffix=source.suffix,
        modified=source.modified,
        content_hash=content_hash,
        sections=parsed.sections,
        metadata=parsed.metadata,
    )


def _stem(source: SourceFile) -> str:
    """Return the name of a file in words: without its suffix, with blanks for _ and -."""
    name = source.relative.rpartition("/")[2]
    return one_line(name.removesuffix(name[len(name) - len(source.suffix) :]).replace("_", " ").replace("-", " "))


def _open(path: Path) -> IO[bytes]:
    """Open a regular file; anything else, also what took its place a moment ago, is refused without waiting.

    The path was resolved when it was found. If it holds a link by now, that may lead anywhere.
    """
    flags = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_BINARY", "O_NOCTTY"))
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(0, _BECAME_A_LINK) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a regular file")
    if os.path.realpath(path) != str(path):
        os.close(descriptor)
        raise OSError(0, _BECAME_A_LINK)
    return os.fdopen(descriptor, "rb")
