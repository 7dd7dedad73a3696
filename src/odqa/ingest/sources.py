"""Which files a corpus consists of: paths -> files to read, and what was left out and why."""

from __future__ import annotations

import os
import re
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from odqa import settings
from odqa.errors import IngestError
from odqa.types import SkippedFile

STREAMED_SUFFIXES = (".jsonl", ".jsonl.gz")
SUPPORTED_SUFFIXES = (
    ".docx",
    ".htm",
    ".html",
    *STREAMED_SUFFIXES,
    ".markdown",
    ".md",
    ".pdf",
    ".text",
    ".txt",
    ".xhtml",
)


_ESCAPE = re.compile(r"\\x[0-9a-f]{2}")
_ESCAPED = re.compile(rb"\\(x[0-9a-f]{2}|\\)")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that can be read.

    `location` is the absolute path, symbolic links resolved, in POSIX form; `relative` is the path below `root`. Both
    are valid Unicode: bytes of a name that are not UTF-8 are written as backslash escapes. `suffix` is in lower case
    and begins with a dot; ".jsonl.gz" counts as one. `size_bytes` and `modified` (seconds since 1970) are those of the
    moment the file was found.
    """

    path: Path
    root: Path
    location: str
    relative: str
    suffix: str
    size_bytes: int
    modified: float


def path_text(path: Path) -> str:
    r"""Return a path in POSIX form as valid Unicode: bytes of a name that are not UTF-8 become escapes such as `\xff`.

    The backslashes of a name that has such bytes, or looks as if it had, are doubled: no two paths become one text.
    """
    return "/".join(map(_name_text, path.as_posix().split("/")))


def _name_text(name: str) -> str:
    raw = os.fsencode(name)
    text = raw.decode("utf-8", "backslashreplace")
    if not _ESCAPE.search(text):
        return text
    return raw.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def text_path(text: str) -> Path:
    """Return the path that `path_text` wrote as `text`."""
    return Path("/".join(map(_name, text.split("/"))))


def _name(text: str) -> str:
    if not _ESCAPE.search(text):
        return text
    return os.fsdecode(_ESCAPED.sub(lambda found: bytes.fromhex(found[1][1:].decode()) or b"\\", text.encode()))


def os_reason(error: OSError) -> str:
    """Return what the operating system said of a failure, without the path (the report names it already)."""
    return (error.strerror or type(error).__name__).lower()


def suffix_of(path: Path) -> str:
    """Return the suffix of a file's name in lower case, "" for none; ".jsonl.gz" counts as one suffix."""
    name = path.name.lower()
    return ".jsonl.gz" if name.endswith(".jsonl.gz") else Path(name).suffix


def discover(
    paths: Sequence[Path], *, max_file_bytes: int = settings.MAX_FILE_BYTES, follow_links: bool = False
) -> Iterator[SourceFile | SkippedFile]:
    """Find the files of a corpus, in an order that depends on the names alone.

    A path is a file (its root is the folder it lies in) or a folder (its own root), which is walked to its end, names
    sorted by code point. A file that is reached twice is yielded once, under the root that came first. Symbolic links
    inside a folder are followed, after everything else of the folder, only to places inside the same root unless
    `follow_links` is given.

    Files and folders whose name begins with a dot are not part of the corpus unless they are given by name; they are
    the one thing that is left out without a report. Everything else that is left out is yielded as a `SkippedFile`:
    unsupported, empty and too large files, links out of the root, in a loop or to nothing, whatever is not a regular
    file (it is never opened), folders that cannot be listed.

    Args:
        paths: Files and folders; none gives nothing.
        max_file_bytes: Largest file in bytes. JSON lines are read as a stream and may be larger.
        follow_links: Follow symbolic links to places outside the root, too.

    Returns:
        The files as they are found.

    Raises:
        IngestError: A given path does not exist or cannot be reached; raised before anything is walked.
        ValueError: `max_file_bytes` is not positive.
    """
    if max_file_bytes <= 0:
        raise ValueError(f"max_file_bytes must be positive, not {max_file_bytes}")
    resolved = [_resolve(path) for path in paths]
    return _Walk(max_file_bytes, follow_links).run(resolved)


def _resolve(path: Path) -> Path:
    """Make a given path absolute; a path that cannot be reached is a mistake of the caller's."""
    try:
        return path.resolve(strict=True)
    except FileNotFoundError as error:
        raise IngestError(f"{path_text(path)}: does not exist; give an existing file or folder") from error
    except OSError as error:
        raise IngestError(f"{path_text(path)}: cannot be reached: {os_reason(error)}") from error
    except RuntimeError as error:  # Python 3.11 and 3.12 say so of a loop of symbolic links
        raise IngestError(f"{path_text(path)}: cannot be reached: a loop of symbolic links") from error


@dataclass(slots=True)
class _Walk:
    """One walk over all given paths, with what has been reached so far."""

    max_file_bytes: int
    follow_links: bool
    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)

    def run(self, paths: Sequence[Path]) -> Iterator[SourceFile | SkippedFile]:
        for path in paths:
            if _is_folder(path):
                yield from self.folder(path)
            else:
                yield from self.file(path, root=path.parent, target=path)

    def folder(self, root: Path) -> Iterator[SourceFile | SkippedFile]:
        """Walk a root; links are put off, so that a file is known by its own name rather than by a link to it."""
        stack = [(root, root)]
        links: deque[Path] = deque()
        while stack or links:
            if stack:
                path, target = stack.pop()
            else:
                path = links.pop()
                found = _follow(path, root, outside=self.follow_links)
                if isinstance(found, SkippedFile):
                    yield found
                    continue
                target = found
            if not _is_folder(target):
                yield from self.file(path, root=root, target=target)
                continue
            if str(target) in self.folders:
                continue
            self.folders.add(str(target))
            try:
                with os.scandir(path) as entries:
                    names = sorted(entry.name for entry in entries)
            except OSError as error:
                yield SkippedFile(source=path_text(target), reason=f"folder cannot be listed: {os_reason(error)}")
                continue
            children = [(path / name, target / name) for name in reversed(names) if not name.startswith(".")]
            stack += [child for child in children if not _is_link(child[1])]
            links.extendleft(child[0] for child in reversed(children) if _is_link(child[1]))

    def file(self, path: Path, *, root: Path, target: Path) -> Iterator[SourceFile | SkippedFile]:
        """Judge one file by its name and its inode, without opening it."""
        location = path_text(target)
        if location in self.files:
            return
        self.files.add(location)
        try:
            status = os.stat(target)  # noqa: PTH116 - a Path would be asked in the same way
        except OSError as error:
            yield SkippedFile(source=location, reason=f"cannot be read: {os_reason(error)}")
            return
        suffix = suffix_of(target)
        reason = self.reason_to_skip(status, suffix)
        if reason:
            yield SkippedFile(source=location, reason=reason)
            return
        yield SourceFile(
            path=target,
            root=root,
            location=location,
            relative=path_text(path.relative_to(root)),
            suffix=suffix,
            size_bytes=status.st_size,
            modified=status.st_mtime,
        )

    def reason_to_skip(self, status: os.stat_result, suffix: str) -> str:
        """Return why a file is left out, or ""."""
        if not stat.S_ISREG(status.st_mode):
            return "not a regular file"
        if suffix not in SUPPORTED_SUFFIXES:
            kind = f'unsupported file type "{_printable(suffix)}"' if suffix else "no file suffix"
            return f"{kind}; supported: {' '.join(SUPPORTED_SUFFIXES)}"
        if status.st_size == 0:
            return "empty file (0 bytes)"
        if suffix not in STREAMED_SUFFIXES and status.st_size > self.max_file_bytes:
            return f"too large: {status.st_size} bytes, the limit is {self.max_file_bytes}; split the file"
        return ""


# These two, unlike the methods of Path, answer False where the folder may be listed but not entered; the file is then
# reported with the reason that `os.stat` gives.
def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112


def _is_link(path: Path) -> bool:
    return os.path.islink(path)  # noqa: PTH114


def _printable(text: str) -> str:
    return path_text(Path(text))


def _follow(link: Path, root: Path, *, outside: bool) -> Path | SkippedFile:
    """Resolve a symbolic link inside a root, or say why it is not followed; `outside` allows places out of the root."""
    source = path_text(link)
    try:
        target = link.resolve(strict=True)
    except FileNotFoundError:
        return SkippedFile(source=source, reason="symbolic link to a file that does not exist")
    except RuntimeError:  # Python 3.11 and 3.12
        return SkippedFile(source=source, reason="symbolic link in a loop")
    except OSError as error:
        return SkippedFile(source=source, reason=f"symbolic link cannot be followed: {os_reason(error)}")
    if not target.is_relative_to(root) and not outside:
        reason = f"symbolic link to a place outside {path_text(root)}; --follow-links follows it"
        return SkippedFile(source=source, reason=reason)
    if link.parent.resolve().is_relative_to(target):
        return SkippedFile(source=source, reason="symbolic link in a loop: it leads to a folder that holds it")
    return target
