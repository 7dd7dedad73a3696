"""Small files of each format, made in the tests."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import docx

from odqa.errors import IngestError
from odqa.ingest.loaders import Record, read_records
from odqa.ingest.sources import SourceFile, discover
from odqa.types import Document, SkippedFile


def write_file(folder: Path, name: str, content: str | bytes) -> SourceFile:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    [source] = discover([path])
    assert isinstance(source, SourceFile), source
    return source


def load_file(folder: Path, name: str, content: str | bytes) -> Document:
    [record] = read_records(write_file(folder, name, content))
    assert isinstance(record, Record), record
    return record.load()


def reason_of(folder: Path, name: str, content: str | bytes) -> str:
    [record] = read_records(write_file(folder, name, content))
    if isinstance(record, SkippedFile):
        return record.reason
    try:
        document = record.load()
    except IngestError as error:
        return str(error)
    raise AssertionError(f"loaded: {document.text!r}")


def pdf_bytes(pages: Sequence[Sequence[str]], *, info: Mapping[str, str] | None = None, trailer: str = "") -> bytes:
    """Write a minimal PDF (ISO 32000-1, 7.5) in Helvetica: one list of lines for each page."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    objects.append("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
    kids = []
    for lines in pages:
        shown = " T* ".join(f"({line}) Tj" for line in lines)
        content = f"BT /F1 12 Tf 14 TL 72 700 Td {shown} ET"
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream")
        kids.append(f"{len(objects) + 1} 0 R")
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {len(objects)} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    if info:
        entries = " ".join(f"/{key} ({value})" for key, value in info.items())
        objects.append(f"<< {entries} >>")
        trailer += f" /Info {len(objects)} 0 R"
    out = b"%PDF-1.4\n"
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("cp1252")
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    return out + (
        f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R{trailer} >>\n"
        f"startxref\n{len(out)}\n%%EOF\n"
    ).encode("cp1252")


def docx_bytes(document: docx.document.Document) -> bytes:
    stream = io.BytesIO()
    document.save(stream)
    return stream.getvalue()


def repacked(data: bytes, changes: Mapping[str, bytes]) -> bytes:
    """Replace or add parts of a zip archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name not in changes:
                new.writestr(name, old.read(name))
        for name, content in changes.items():
            new.writestr(name, content)
    return stream.getvalue()
