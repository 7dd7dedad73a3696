import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odqa.errors import IngestError
from odqa.ingest.loaders import read_records
from odqa.ingest.parsers import PARSERS
from odqa.ingest.sources import (
    STREAMED_SUFFIXES,
    SUPPORTED_SUFFIXES,
    SourceFile,
    discover,
    path_text,
    suffix_of,
    text_path,
)
from odqa.types import SkippedFile


def write(path: Path, content: bytes = b"text") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def found(*paths: Path, **options: int) -> list[str]:
    return [item.relative for item in discover(paths, **options) if isinstance(item, SourceFile)]


def skipped(*paths: Path, **options: int) -> dict[str, str]:
    items = [item for item in discover(paths, **options) if isinstance(item, SkippedFile)]
    return {Path(item.source).name: item.reason for item in items}


def test_a_folder_is_walked_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.md", "a/B.TXT", "c/d/e.pdf", "a.txt"):
        write(tmp_path / name)
    assert found(tmp_path) == ["a/B.TXT", "a/z.md", "a.txt", "b.txt", "c/d/e.pdf"]
    assert found(tmp_path) == found(tmp_path)


def test_what_is_known_of_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "corpus" / "sub" / "Note.TXT", b"12345")
    os.utime(path, (1, 1_000_000.5))
    [item] = discover([tmp_path / "corpus"])
    assert item == SourceFile(
        path=path.resolve(),
        root=(tmp_path / "corpus").resolve(),
        location=path.resolve().as_posix(),
        relative="sub/Note.TXT",
        suffix=".txt",
        size_bytes=5,
        modified=1_000_000.5,
    )


def test_a_single_file_has_its_folder_as_root(tmp_path: Path) -> None:
    path = write(tmp_path / "one.md")
    [item] = discover([path])
    assert isinstance(item, SourceFile)
    assert (item.root, item.relative) == (tmp_path.resolve(), "one.md")


def test_no_paths_give_nothing() -> None:
    assert list(discover([])) == []


def test_a_missing_path_is_an_error_before_anything_is_walked(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"nowhere: does not exist"):
        discover([tmp_path, tmp_path / "nowhere"])


def test_the_limit_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_file_bytes"):
        discover([tmp_path], max_file_bytes=0)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.JSONL.GZ", ".jsonl.gz"), ("a.tar.gz", ".gz"), ("a.b.txt", ".txt"), ("README", ""), ("x.Md", ".md")],
)
def test_suffixes(name: str, suffix: str) -> None:
    assert suffix_of(Path(name)) == suffix


def test_every_supported_suffix_has_a_parser_and_the_reverse() -> None:
    assert sorted(SUPPORTED_SUFFIXES) == sorted([*PARSERS, *STREAMED_SUFFIXES])


def test_hidden_files_and_folders_are_no_part_of_a_corpus(tmp_path: Path) -> None:
    write(tmp_path / ".hidden.txt")
    write(tmp_path / ".git" / "a.txt")
    write(tmp_path / "seen.txt")
    assert found(tmp_path) == ["seen.txt"]
    assert skipped(tmp_path) == {}
    assert found(tmp_path / ".git") == ["a.txt"]  # given by name


def test_overlapping_paths_yield_a_file_once(tmp_path: Path) -> None:
    path = write(tmp_path / "sub" / "a.txt")
    write(tmp_path / "b.txt")
    assert found(tmp_path, tmp_path / "sub", path, tmp_path) == ["b.txt", "sub/a.txt"]
    assert found(path, tmp_path) == ["a.txt", "b.txt"]


def test_reasons_for_files_that_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg")
    write(tmp_path / "README")
    write(tmp_path / "empty.txt", b"")
    write(tmp_path / "large.txt", b"x" * 11)
    write(tmp_path / "fits.txt", b"x" * 10)
    write(tmp_path / "large.jsonl", b"x" * 11)
    write(tmp_path / "large.jsonl.gz", b"x" * 11)
    reasons = skipped(tmp_path, max_file_bytes=10)
    supported = "supported: .docx .htm .html .jsonl .jsonl.gz .markdown .md .pdf .text .txt .xhtml"
    assert reasons == {
        "README": f"no file suffix; {supported}",
        "a.jpg": f'unsupported file type ".jpg"; {supported}',
        "empty.txt": "empty file (0 bytes)",
        "large.txt": "too large: 11 bytes, the limit is 10; split the file",
    }
    assert found(tmp_path, max_file_bytes=10) == ["fits.txt", "large.jsonl", "large.jsonl.gz"]


def test_pipes_and_sockets_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.txt"))
        assert skipped(tmp_path) == {"pipe.txt": "not a regular file", "socket.txt": "not a regular file"}


def test_links_lead_nowhere_but_to_places_inside_the_root(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside" / "secret.txt")
    root = tmp_path / "root"
    write(root / "sub" / "real.txt")
    write(root / ".hidden" / "a.txt")
    (root / "a_link.txt").symlink_to(root / "sub" / "real.txt")
    (root / "broken.txt").symlink_to(root / "gone.txt")
    (root / "escape.txt").symlink_to(outside)
    (root / "escape").symlink_to(outside.parent)
    (root / "self.txt").symlink_to(root / "self.txt")
    (root / "sub" / "up").symlink_to(root)
    (root / "unhidden").symlink_to(root / ".hidden")
    reasons = skipped(root)
    assert found(root) == ["sub/real.txt", "unhidden/a.txt"]
    assert set(reasons) == {"broken.txt", "escape.txt", "escape", "self.txt", "up"}
    assert reasons["broken.txt"] == "symbolic link to a file that does not exist"
    assert reasons["escape"].startswith("symbolic link to a place outside ")
    assert "loop" in reasons["up"]
    assert "symbolic link" in reasons["self.txt"]


def test_a_given_path_may_be_a_link(tmp_path: Path) -> None:
    write(tmp_path / "real" / "a.txt")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    [item] = discover([tmp_path / "link"])
    assert isinstance(item, SourceFile)
    assert item.location == (tmp_path / "real" / "a.txt").resolve().as_posix()


def test_names_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    for name in (b"na\xefve.txt", b"x.\xff"):
        write(tmp_path / os.fsdecode(b"caf\xe9") / os.fsdecode(name))
    items = list(discover([tmp_path]))
    assert [item.relative for item in items if isinstance(item, SourceFile)] == [r"caf\xe9/na\xefve.txt"]
    assert all(item.source.encode() and item.reason.encode() for item in items if isinstance(item, SkippedFile))


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), NotADirectoryError(20, "Not a directory")])
def test_a_folder_that_cannot_be_listed_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    write(tmp_path / "closed" / "a.txt")
    write(tmp_path / "open" / "b.txt")
    scan = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "closed":
            raise error
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert skipped(tmp_path) == {"closed": f"folder cannot be listed: {error.strerror.lower()}"}
    assert found(tmp_path) == ["open/b.txt"]


# ---- links out of the folder, and whatever is no file --------------------------------------------------------------


def test_links_out_of_the_root_are_followed_when_asked(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside" / "deep" / "secret.txt").parent.parent
    (outside / "back").symlink_to(tmp_path / "root")
    (outside / "self").symlink_to(outside)
    write(outside / ".hidden" / "h.txt")
    root = tmp_path / "root"
    write(root / "a.txt")
    (root / "escape").symlink_to(outside)
    (root / "one.txt").symlink_to(outside / "deep" / "secret.txt")
    (root / "up").symlink_to(tmp_path)
    (root / "zero.txt").symlink_to("/dev/zero")
    assert found(root) == ["a.txt"]
    reasons = skipped(root)
    assert set(reasons) == {"escape", "one.txt", "up", "zero.txt"}
    assert all(reason.endswith("; --follow-links follows it") for reason in reasons.values())
    assert found(root, follow_links=True) == ["a.txt", "escape/deep/secret.txt"]
    reasons = skipped(root, follow_links=True)
    assert reasons.pop("zero") == "not a regular file"
    assert set(reasons) == {"self", "up"}  # "back" leads to what was walked already
    assert all("loop" in reason for reason in reasons.values())


def test_folders_that_link_to_each_other_are_walked_once(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a"), ("c", "c")):
        write(tmp_path / "outside" / name / f"{name}.txt")
        (tmp_path / "outside" / name / "next").symlink_to(tmp_path / "outside" / other)
    root = tmp_path / "root"
    root.mkdir()
    for number in range(20):
        (root / f"{number}").symlink_to(tmp_path / "outside" / "abc"[number % 3])
    assert found(root, follow_links=True) == ["0/a.txt", "1/b.txt", "11/c.txt"]


def test_a_file_that_became_a_link_is_not_read(tmp_path: Path) -> None:
    write(tmp_path / "outside" / "a.txt", b"the secret")
    root = tmp_path / "root"
    for name in ("a.txt", "sub/a.txt"):
        write(root / name, b"text")
    plain, below = (item for item in discover([root]) if isinstance(item, SourceFile))
    plain.path.unlink()
    plain.path.symlink_to(tmp_path / "outside" / "a.txt")
    below.path.parent.rename(root / "moved")
    below.path.parent.symlink_to(tmp_path / "outside")
    for source in (plain, below):
        [record] = read_records(source)
        assert isinstance(record, SkippedFile)
        assert record.reason == "cannot be read: it became a symbolic link after it was found"


def test_devices_are_never_opened(tmp_path: Path) -> None:
    for device in ("/dev/null", "/dev/zero", "/dev/tty"):
        if Path(device).exists():
            assert skipped(Path(device)) == {Path(device).name: "not a regular file"}


def test_no_two_names_become_one(tmp_path: Path) -> None:
    names = [
        b"caf\xe9.txt",
        rb"caf\xe9.txt",
        rb"caf\\xe9.txt",
        "café.txt".encode(),
        b"a\\b.txt",
        b"a\\\\b.txt",
        b"\xff\\.txt",
    ]
    for number, name in enumerate(names):
        write(tmp_path / os.fsdecode(name), f"text {number}".encode())
    items = [item for item in discover([tmp_path]) if isinstance(item, SourceFile)]
    assert len({item.location for item in items}) == len({item.relative for item in items}) == len(names)
    for item in items:
        assert text_path(item.location) == item.path
    assert sorted(item.relative for item in items)[:2] == [r"\xff\\.txt", r"a\\b.txt"]


@given(
    st.binary(min_size=1, max_size=12).filter(lambda name: not {0, 47} & set(name)), st.sampled_from([b"", rb"\xe9"])
)
def test_the_text_of_a_name_leads_back_to_it(name: bytes, more: bytes) -> None:
    path = Path("/folder") / os.fsdecode(more + name)
    text = path_text(path)
    text.encode()
    assert text_path(text) == path
    if (more + name).isascii() and not more:
        assert text == path.as_posix() or "\\x" in text


@given(st.lists(st.text(st.sampled_from("\\x0aeé"), min_size=1, max_size=8), min_size=2, max_size=2, unique=True))
def test_different_names_have_different_texts(names: list[str]) -> None:
    first, second = (path_text(Path(name)) for name in names)
    assert first != second
    raw = path_text(Path(os.fsdecode(names[0].encode() + b"\xe9")))
    assert raw not in {first, second}


def test_control_characters_of_a_name_stay_in_its_text(tmp_path: Path) -> None:
    write(tmp_path / "a\x1b[31m\n.txt")
    [item] = discover([tmp_path])
    assert isinstance(item, SourceFile)
    assert item.relative == "a\x1b[31m\n.txt"
    assert text_path(item.location) == item.path
