"""Files -> records -> documents. One table says which function parses which suffix."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from odqa.errors import IngestError
from odqa.ingest import docx, encodings, html, jsonl, markdown, pdf
from odqa.ingest.parsed import Parsed, checked, one_line
from odqa.ingest.sources import SourceFile, os_reason, path_text
from odqa.types import Document, SkippedFile


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
    load: Callable[[], Document]
    bytes_read: int = 0


def _plain(data: bytes) -> Parsed:
    return Parsed(title="", text=encodings.decode(data))


def _markdown(data: bytes) -> Parsed:
    return markdown.parse(encodings.decode(data))


def _html(data: bytes) -> Parsed:
    return html.parse(encodings.decode(data, declared=html.declared_charset(data)))


PARSERS: dict[str, Callable[[bytes], Parsed]] = {
    ".docx": docx.parse,
    ".htm": _html,
    ".html": _html,
    ".markdown": _markdown,
    ".md": _markdown,
    ".pdf": pdf.parse,
    ".text": _plain,
    ".txt": _plain,
    ".xhtml": _html,
}


def read_records(source: SourceFile) -> Iterator[Record | SkippedFile]:
    """Read a file, once, and yield what it holds: one record, or one for each line of JSON lines.

    What cannot be read is yielded as a `SkippedFile` with the reason; a bad line is named by its number, as
    `location:line 12`. No error is raised for bad input. A file that changed its kind since it was found (into a pipe,
    say) is not waited for.

    Raises:
        ValueError: No parser knows the suffix, which `discover` never yields.
    """
    compressed = source.suffix == ".jsonl.gz"
    if compressed or source.suffix == ".jsonl":
        return _json_records(source, compressed=compressed)
    if source.suffix not in PARSERS:
        raise ValueError(f"no parser for the suffix {source.suffix!r}; known are {' '.join(PARSERS)}")
    return _whole_file(source, PARSERS[source.suffix])


def _whole_file(source: SourceFile, parse: Callable[[bytes], Parsed]) -> Iterator[Record | SkippedFile]:
    try:
        with closing(_open(source.path)) as stream:
            data = stream.read()
    except OSError as error:
        yield SkippedFile(source=source.location, reason=f"cannot be read: {os_reason(error)}")
        return
    content_hash = hashlib.sha256(data).hexdigest()

    def load() -> Document:
        parsed = checked(parse(data))
        return _document(source, parsed, record="", content_hash=content_hash, title=parsed.title or _stem(source))

    yield Record(source=source, record="", content_hash=content_hash, load=load, bytes_read=len(data))


def _json_records(source: SourceFile, *, compressed: bool) -> Iterator[Record | SkippedFile]:
    seen: set[str] = set()
    try:
        with closing(_open(source.path)) as stream:
            for line in jsonl.read_lines(stream, compressed=compressed):
                try:
                    found = jsonl.parse_line(line)
                    if found.record in seen:
                        raise IngestError(f'the id "{found.record}" stands on an earlier line already')
                except IngestError as error:
                    yield SkippedFile(source=f"{source.location}:line {line.number}", reason=str(error))
                    continue
                seen.add(found.record)
                yield _json_record(source, found, hashlib.sha256(line.data).hexdigest(), bytes_read=stream.tell())
    except OSError as error:
        yield SkippedFile(source=source.location, reason=f"cannot be read: {os_reason(error)}")


def _json_record(source: SourceFile, found: jsonl.JsonRecord, content_hash: str, *, bytes_read: int) -> Record:
    def load() -> Document:
        parsed = Parsed(title=found.title, text=found.text, metadata=found.metadata)
        return _document(source, parsed, record=found.record, content_hash=content_hash, title=found.title)

    return Record(source=source, record=found.record, content_hash=content_hash, load=load, bytes_read=bytes_read)


def _document(source: SourceFile, parsed: Parsed, *, record: str, content_hash: str, title: str) -> Document:
    """Make a document; the store may choose another `doc_id` when this one is taken."""
    root = path_text(Path(source.root.name)) if source.root.name else ""
    doc_id = f"{root}/{source.relative}" if root else source.relative
    return Document(
        doc_id=f"{doc_id}#{record}" if record else doc_id,
        title=title,
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
    """Open a regular file; anything else, also what took its place a moment ago, is refused without waiting."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a regular file")
    return os.fdopen(descriptor, "rb")
