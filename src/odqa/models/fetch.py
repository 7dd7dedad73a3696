"""One address -> one file: resumed where it broke off, and given its name only when it is the right one.

Bytes are written to `NAME.part`. Beside it, `NAME.part.json` holds the address and what the server names the version of
the file by (ETag, else Last-Modified; RFC 9110, sections 8.8 and 13.1.5), so that a later attempt asks for the rest of
that version only. Proxies are those of the environment (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`) or of the system.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, InvalidURL
from importlib import metadata
from pathlib import Path
from typing import IO, BinaryIO

from odqa.errors import DownloadError
from odqa.models.registry import differs

Report = Callable[[int, int | None, str], None]  # bytes that are here, bytes of the file or None, and a note or ""

CHUNK_BYTES = 1 << 18
_ABSENT = (403, 404, 410)  # some stores of files answer 403 where there is none
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_UNREACHABLE = (errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH)
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_GO_ON = "run the same command again to go on from there"
_CHECK = "check the network and the proxy, or name a mirror with --base-url"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a download is tried.

    `stall_seconds` without a byte break a connection. A broken one is made anew after `pause_seconds`, twice as long
    after every failure up to `longest_pause_seconds`. `attempts` in a row that got to the same byte are enough.
    """

    stall_seconds: float = 30.0
    attempts: int = 6
    pause_seconds: float = 1.0
    longest_pause_seconds: float = 30.0


class AbsentFileError(DownloadError):
    """There is no file at the address."""


class _BrokenError(Exception):
    """An attempt failed in a way that another may not; `unreachable` where nothing answered at all."""

    def __init__(self, reason: str, *, unreachable: bool = False, wait_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.unreachable = unreachable
        self.wait_seconds = wait_seconds


def fetch(
    url: str,
    target: Path,
    *,
    size: int | None,
    checksum: str | None,
    witness: str,
    advice: str,
    patience: Patience,
    report: Report,
) -> None:
    """Fetch a file, and give it its name when its size and checksum are right. The folder of `target` has to be there.

    Args:
        url: an http, https or file address.
        target: where the file goes; a file of this name is replaced.
        size: bytes, None if not known.
        checksum: "sha256:" or "sha384:" and hex digits, None if not known.
        witness: where size and checksum stand, for the message about another file.
        advice: what to do then.
        patience: how long it is tried.
        report: called with every piece that came, and with a note before each further attempt.

    Raises:
        AbsentFileError: there is no file at the address.
        DownloadError: it could not be fetched (what came stays beside `target`), or it is not the right one (what came
            is removed).
    """
    part = _Part(target)
    most, failures, came = part.size, 0, False
    while True:
        try:
            _receive(url, part, size=size, patience=patience, report=report)
            break
        except _BrokenError as broken:
            came = came or part.size > most
            failures = 1 if part.size > most else failures + 1
            most = max(most, part.size)
            if failures >= patience.attempts or (broken.unreachable and not came):
                cure = _CHECK if broken.unreachable else "try again later"
                cure = f"{part.size} bytes of it are here, {_GO_ON}" if part.size else cure
                raise DownloadError(f"{url} could not be fetched: {broken}; {cure}") from broken
            pause = min(patience.pause_seconds * 2 ** (failures - 1), patience.longest_pause_seconds)
            pause = max(pause, min(broken.wait_seconds, patience.longest_pause_seconds))
            report(part.size, size, f"{broken}; attempt {failures + 1} of {patience.attempts} in {pause:.0f} s")
            time.sleep(pause)
    wrong = differs(part.path, size=size, checksum=checksum)
    if wrong is not None:
        part.discard()
        raise DownloadError(
            f"{url} is not the right file: it has {wrong}, which stands in {witness}. It was removed; {advice}"
        )
    part.finish(target)


# ---- the unfinished file -------------------------------------------------------------------------------------------


class _Part:
    """The unfinished file beside its target, and what is known of where it came from."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(target.name + ".part")
        self._notes = target.with_name(target.name + ".part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def version(self, url: str) -> str | None:
        """Return what the server at `url` called the version of the bytes that are here, None if nothing is known."""
        try:
            notes = json.loads(self._notes.read_text(encoding="utf-8"))
            return str(notes["version"]) if notes["url"] == url and notes["version"] else None
        except (OSError, ValueError, KeyError, TypeError):  # none, or half written: then it begins anew
            return None

    def open(self, start: int, *, url: str, version: str | None) -> BinaryIO:
        """Open the file to write from `start` on: 0 begins anew, else it is the present end.

        Raises:
            DownloadError: the disk is full, or refuses.
        """
        try:
            file = self.path.open("ab" if start else "wb", buffering=0)
            if not start:
                self._notes.write_text(json.dumps({"url": url, "version": version}), encoding="utf-8")
        except OSError as error:
            raise self._refused(error) from error
        return file

    def write(self, file: BinaryIO, piece: bytes) -> None:
        """Write all of `piece`; raises as `open` does."""
        rest = memoryview(piece)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as error:
            raise self._refused(error) from error

    def discard(self) -> None:
        """Remove what is here."""
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        """Make the file durable, then give it its name."""
        try:
            with self.path.open("r+b") as file:
                os.fsync(file.fileno())
            self.path.replace(target)
            self._notes.unlink(missing_ok=True)
            if os.name != "nt":  # Windows cannot sync a folder, and need not
                folder = os.open(target.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> DownloadError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        cure = f"make room, then {_GO_ON}" if full else "make its folder writable, or set ODQA_MODELS_DIR"
        return DownloadError(f"{self.path} cannot be written: {error.strerror or error}; {cure}")


# ---- one attempt ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a source offers: bytes from `start` on of a file of `total` bytes (None: it does not say), by `read`."""

    start: int
    total: int | None
    version: str | None
    read: Callable[[], bytes]


def _receive(url: str, part: _Part, *, size: int | None, patience: Patience, report: Report) -> None:
    """Bring the file to its end, or raise."""
    if size is not None and part.size >= size:
        if part.size == size:  # the last process ended before it could give the file its name
            return
        part.discard()
    opened = _opened_file(url) if url.startswith("file:") else _opened_url(url, part, patience=patience)
    with opened as answer:
        if answer is None:
            return
        if size is not None and answer.total not in (size, None):
            raise DownloadError(
                f"{url} is not the right file: the source says that it has {answer.total} bytes instead of {size}; "
                "check the address, and whether a proxy or a login page answers in its place"
            )
        done, total = answer.start, size if size is not None else answer.total
        with part.open(done, url=url, version=answer.version) as file:
            report(done, total, "")
            while piece := answer.read():
                done += len(piece)
                if total is not None and done > total:
                    break
                part.write(file, piece)
                report(done, total, "")
    if total is not None and done > total:
        part.discard()
        raise DownloadError(f"{url} is not the right file: it is longer than {total} bytes; it was removed")
    if total is not None and done < total:
        raise _BrokenError(f"the connection ended after {done} of {total} bytes")


@contextlib.contextmanager
def _opened_file(url: str) -> Iterator[_Answer]:
    path = Path(urllib.request.url2pathname(urllib.parse.urlsplit(url).path))
    try:
        with path.open("rb", buffering=0) as file:
            total = os.fstat(file.fileno()).st_size

            def read() -> bytes:
                try:
                    return file.read(CHUNK_BYTES)
                except OSError as error:
                    raise DownloadError(f"{path} cannot be read: {error.strerror}") from error

            yield _Answer(0, total, None, read)
    except FileNotFoundError as error:
        raise AbsentFileError(f"{url}: there is no such file; see docs/models.md for the layout of a mirror") from error
    except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise DownloadError(f"{path} cannot be read: {error.strerror}") from error


@contextlib.contextmanager
def _opened_url(url: str, part: _Part, *, patience: Patience) -> Iterator[_Answer | None]:
    """Ask for the file, or for its rest where the version of what is here is known; None when that was all of it."""
    version = part.version(url)
    have = part.size if version else 0
    headers = {"User-Agent": f"odqa/{metadata.version('odqa')}", "Accept-Encoding": "identity"}
    if have and version:
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    with contextlib.ExitStack() as stack:
        try:
            request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the caller allows three schemes
            opener = urllib.request.build_opener(_Redirects)
            response = stack.enter_context(opener.open(request, timeout=patience.stall_seconds))
        except urllib.error.HTTPError as error:
            with error:
                if have and error.code == 416 and error.headers.get("Content-Range") == f"bytes */{have}":
                    yield None
                    return
                raise _http_error(url, error, part) from error
        except (OSError, HTTPException) as error:
            raise _connection_error(url, error, patience) from error

        def read() -> bytes:
            try:
                # read1, not read: what came before a stall or a break is not lost with it
                return bytes(response.read1(CHUNK_BYTES))
            except TimeoutError as error:
                raise _BrokenError(f"nothing came for {patience.stall_seconds:g} s") from error
            except (OSError, HTTPException) as error:
                raise _BrokenError(f"the connection broke ({error or type(error).__name__})") from error

        start, total = _extent(url, response.status, response.headers, part, have=have)
        yield _Answer(start, total, _version(response.headers), read)


def _extent(url: str, status: int, headers: Mapping[str, str], part: _Part, *, have: int) -> tuple[int, int | None]:
    """Return where the bytes of an answer begin, and how many bytes the file has by it."""
    if headers.get("Content-Encoding", "identity") != "identity":
        raise DownloadError(f"{url} comes packed ({headers['Content-Encoding']}); name another source with --base-url")
    announced = headers.get("Content-Length", "")
    length = int(announced) if announced.isdecimal() else None
    if status == 200:
        return 0, length
    if status != 206:
        raise DownloadError(f"{url} was answered with HTTP {status}, without the file; name another source")
    ranged = _RANGE.fullmatch(headers.get("Content-Range", ""))
    if not have or ranged is None or int(ranged[1]) != have or _version(headers) not in (part.version(url), None):
        part.discard()
        raise _BrokenError("the server sent another piece than was asked for")
    return have, int(ranged[2]) if ranged[2] != "*" else None if length is None else have + length


def _version(headers: Mapping[str, str]) -> str | None:
    """Return what can stand in If-Range: a strong ETag, else the time of change."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _http_error(url: str, error: urllib.error.HTTPError, part: _Part) -> Exception:
    said = f"HTTP {error.code} {error.reason}"
    if error.code in _PASSING:
        after = error.headers.get("Retry-After", "")
        return _BrokenError(f"the server answered {said}", wait_seconds=float(after) if after.isdecimal() else 0.0)
    if error.code == 416:
        part.discard()
        return _BrokenError("the server has no such range of the file")
    if error.code in _ABSENT:
        return AbsentFileError(f"{url} was answered with {said}: there is no file; name a mirror with --base-url")
    return DownloadError(f"{url} was answered with {said}; check the address and the proxy")


def _connection_error(url: str, error: Exception, patience: Patience) -> Exception:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return DownloadError(
            f"{url}: the certificate of the server is not trusted ({reason.verify_message}); if it is your own, name "
            "its authority's file with SSL_CERT_FILE"
        )
    if isinstance(reason, InvalidURL) or "Tunnel connection failed" in str(reason):
        return DownloadError(f"{url} cannot be asked for: {reason}; check the address and the proxy")
    if isinstance(reason, TimeoutError):
        return _BrokenError(f"the server did not answer for {patience.stall_seconds:g} s")
    unreachable = isinstance(reason, socket.gaierror) or getattr(reason, "errno", None) in _UNREACHABLE
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return _BrokenError(f"the server cannot be reached ({text})", unreachable=unreachable)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to something that anybody on the way could change."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if urllib.parse.urlsplit(req.full_url).scheme == "https" and not newurl.lower().startswith("https:"):
            raise DownloadError(f"{req.full_url} leads to {newurl}, which is not safe; name another source")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
