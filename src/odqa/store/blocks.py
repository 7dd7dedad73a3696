"""The text of documents, in packed blocks of 32,768 code points, each with a checksum: damage is noticed, never served.

SQLite notices damage to its pages' structure, not to the bytes of a text. So every block carries the CRC-32 of its
packed bytes, compared at each reading before they are unpacked.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from odqa.errors import DamagedIndexError
from odqa.store.schema import BLOCK_CODE_POINTS, Transaction, document_blocks

_MOST_BYTES = 4 * BLOCK_CODE_POINTS  # of UTF-8 in a block


class BlockError(Exception):
    """A block is not what was written; the message is the reason. Becomes an error that names the document."""


def encode_text(text: str) -> bytes:
    """Encode a block of text as packed UTF-8 (zlib, RFC 1950); lone surrogates survive."""
    return zlib.compress(text.encode("utf-8", "surrogatepass"))


def decode_text(block: bytes, checksum: int) -> str:
    """Undo `encode_text`, once the checksum was compared.

    Raises:
        BlockError: these are not the bytes that were written.
    """
    if not isinstance(block, bytes) or zlib.crc32(block) != checksum:
        raise BlockError("the checksum of its text differs")
    unpacking = zlib.decompressobj()
    try:
        unpacked = unpacking.decompress(block, _MOST_BYTES)
        if not unpacking.eof or unpacking.unused_data:
            raise BlockError("a block of its text is no whole block")
        return unpacked.decode("utf-8", "surrogatepass")
    except zlib.error as error:
        raise BlockError(f"its text cannot be unpacked: {error}") from error
    except UnicodeDecodeError as error:
        raise BlockError(f"its text is not UTF-8: {error}") from error


# Several of a question's passages lie in one block, and those of the next question often in the same ones. The key is
# the packed bytes with their checksum, so what is kept was verified. 64 blocks: 4 megabytes of English, 15 at most.
_kept_text = lru_cache(maxsize=64)(decode_text)


def block_rows(text: str, document_pk: int) -> list[dict[str, Any]]:
    """Cut a text into the rows of `document_blocks`; an empty text has none."""
    rows = []
    for start in range(0, len(text), BLOCK_CODE_POINTS):
        block = encode_text(text[start : start + BLOCK_CODE_POINTS])
        rows.append({"document_pk": document_pk, "start": start, "text": block, "checksum": zlib.crc32(block)})
    return rows


def joined(blocks: Iterable[tuple[int, bytes, int]], *, length: int) -> str:
    """Join the blocks (start, text, checksum) of a document of `length` code points, given in order.

    Raises:
        BlockError: a block is damaged, missing or one too many.
    """
    parts: list[str] = []
    for start, block, checksum in blocks:
        if start != len(parts) * BLOCK_CODE_POINTS:
            raise BlockError(f"its text lacks the code points from {len(parts) * BLOCK_CODE_POINTS} on")
        parts.append(decode_text(block, checksum))
    text = "".join(parts)
    if len(text) != length:
        raise BlockError(f"its text has {len(text)} code points instead of {length}")
    return text


def cut(blocks: Iterable[tuple[int | None, bytes, int]], *, start: int, end: int) -> str:
    """Cut `[start, end)` out of the blocks (start, text, checksum) that it touches, given in order.

    Raises:
        BlockError: a block is damaged or missing.
    """
    first = start - start % BLOCK_CODE_POINTS
    parts: list[str] = []
    for at, block, checksum in blocks:
        if at != first + len(parts) * BLOCK_CODE_POINTS:
            break
        parts.append(_kept_text(block, checksum))
    text = "".join(parts)[start - first : end - first]
    if len(text) != end - start:
        raise BlockError(f"its text lacks some of the code points [{start}, {end})")
    return text


def document_text(connection: Transaction, document_pk: int, *, length: int) -> str:
    """Read the text of a document of `length` code points.

    Raises:
        BlockError: it is not the text that was written.
    """
    blocks = document_blocks.c
    rows = document_blocks.select().with_only_columns(blocks.start, blocks.text, blocks.checksum)
    owned = connection.execute(rows.where(blocks.document_pk == document_pk).order_by(blocks.start))
    return joined(((row[0], row[1], row[2]) for row in owned), length=length)


def damaged_text(doc_id: str, reason: object) -> DamagedIndexError:
    """Return the error for a document whose text cannot be served."""
    return DamagedIndexError(
        f"document {doc_id!r} of the index is damaged ({reason}); run `odqa check --repair`, then index its file again"
    )
