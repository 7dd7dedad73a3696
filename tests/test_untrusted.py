"""Index and model files are data, and so is what a user types: read off the code with `ast`, and tried."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fake_models
import numpy as np
import openvino
import pytest
from hypothesis import given
from hypothesis import strategies as st

import odqa
from odqa.errors import DamagedModelError
from odqa.models import opening, registry
from odqa.protocols import PreparedDocument
from odqa.retriever.hybrid import has_words, text_expression
from odqa.store import vector_index
from odqa.store.index import Index
from odqa.types import Document, Span

SOURCE = Path(odqa.__file__).parent
TREES = {
    path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(SOURCE.rglob("*.py"))
}

# ---- nothing that a file holds is run ------------------------------------------------------------------------------

RUNS_WHAT_IT_READS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code"}
CALLS = {"eval", "exec", "compile", "__import__"}


@pytest.mark.parametrize("name", TREES)
def test_nothing_that_could_run_what_it_reads(name: str) -> None:
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & RUNS_WHAT_IT_READS
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in RUNS_WHAT_IT_READS
        elif isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else ""
            assert called not in CALLS, f"{name}:{node.lineno} calls {called}"
            assert not any(keyword.arg == "allow_pickle" for keyword in node.keywords)  # numpy's default is to refuse
            attribute = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            owner = node.func.value.id if attribute and isinstance(node.func.value, ast.Name) else ""  # type: ignore[attr-defined]
            assert (owner, attribute) not in {("yaml", "load"), ("os", "system"), ("torch", "load")}
            shell = [keyword for keyword in node.keywords if keyword.arg == "shell"]
            assert all(isinstance(one.value, ast.Constant) and one.value.value is False for one in shell)


# ---- SQL is made of constants --------------------------------------------------------------------------------------

SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|PRAGMA|CREATE|DROP|ALTER|ATTACH|VALUES|WHERE|EXISTS|ORDER BY)\b")
# Where SQL is put together all the same, and of what: never of anything that came from a file or a user.
MADE_OF_OUR_OWN = {
    ("store/filters.py", "_field"),  # names of parameters
    ("store/metadata_writer.py", "remove_contents"),  # a constant
    ("store/metadata_writer.py", "_insert"),  # names of columns
    ("store/metadata_writer.py", "_existing"),  # question marks
    ("store/schema.py", "search_fts"),  # a constant, or nothing
    ("store/schema.py", "_set_pragmas"),  # constants
    ("store/schema.py", "create_database"),  # constants
}
# Where a statement is handed on that was made elsewhere.
HANDED_ON = {
    ("store/allowed.py", "allowed_passages"),  # the SQL of FilterSql
    ("store/full_text_check.py", "__init__"),  # constants, in a loop
    ("store/metadata_store.py", "search_text"),  # that of `search_fts`
    ("store/metadata_writer.py", "remove_contents"),
    ("store/metadata_writer.py", "_insert"),
    ("store/metadata_writer.py", "_existing"),
    ("store/schema.py", "create_database"),
    ("store/schema.py", "_begin"),  # one of two constants
    ("store/schema.py", "_set_pragmas"),
    ("store/schema.py", "outside_transaction"),
    ("store/schema.py", "sql"),
}
TAKES_SQL = {"text", "sql", "exec_driver_sql", "run", "executescript", "execute", "executemany"}


def functions(tree: ast.AST, name: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield every node with the name of the innermost function around it."""
    for child in ast.iter_child_nodes(tree):
        inner = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else name
        yield inner, child
        yield from functions(child, inner)


def words(node: ast.AST) -> str:
    return " ".join(n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str))


def constants_only(node: ast.JoinedStr) -> bool:
    """Whether all that is put into an f-string are constants of a module, by their names, and numbers."""
    inside = [n for part in node.values if isinstance(part, ast.FormattedValue) for n in ast.walk(part.value)]
    return all(n.id.lstrip("_").isupper() for n in inside if isinstance(n, ast.Name)) and not any(
        isinstance(n, ast.Call | ast.Attribute | ast.Subscript) for n in inside
    )


def test_sql_is_put_together_nowhere_else() -> None:
    found = set()
    for file, tree in TREES.items():
        if not file.startswith("store/"):
            continue
        for name, node in functions(tree):
            made = (isinstance(node, ast.JoinedStr) and not constants_only(node)) or (
                isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod | ast.Add)
            )
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                template = node.func.value
                is_sql = isinstance(template, ast.Name | ast.Subscript) or SQL.search(words(template))
                if node.func.attr == "format" and is_sql:
                    found.add((file, name))
            if made and SQL.search(words(node)):
                found.add((file, name))
    found = {place for place in found if place[1] != "_test"}  # `_TEST[operator]`: see test_filters.py
    assert found == MADE_OF_OUR_OWN, found ^ MADE_OF_OUR_OWN


def is_constant(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.JoinedStr):
        return constants_only(node)
    return isinstance(node, ast.Name) and node.id.lstrip("_").isupper()


def test_statements_are_constants_or_sqlalchemy() -> None:
    """`execute` of SQLAlchemy takes no text; what makes a statement of a text is given a constant."""
    found = set()
    for file, tree in TREES.items():
        for name, node in functions(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            receiver = getattr(node.func, "value", None)
            owner = getattr(receiver, "id", "")
            if isinstance(receiver, ast.Call) and getattr(receiver.func, "attr", "") == "cursor":
                owner = "cursor"
            if called not in TAKES_SQL or not file.startswith("store/"):
                continue
            if called == "execute" and owner != "cursor" and name != "_set_pragmas":
                continue  # SQLAlchemy's: it takes no text
            if not is_constant(node.args[0]):
                found.add((file, name))
    assert found == HANDED_ON, found ^ HANDED_ON


# ---- checksums come before parsers ---------------------------------------------------------------------------------


def test_a_changed_model_file_reaches_no_parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = registry.find("odqa-encoder-small-int8")
    spec = replace(spec, source="pull", files=tuple(replace(file, url="https://example.org/x") for file in spec.files))
    folder = tmp_path / spec.name
    shutil.copytree(registry.BUNDLED, folder)
    monkeypatch.setenv("ODQA_MODELS_DIR", str(tmp_path))
    parsed: list[object] = []
    monkeypatch.setattr(openvino.Core, "read_model", lambda *given: parsed.append(given))
    monkeypatch.setattr(opening, "Tokenizer", lambda *given, **_: parsed.append(given))
    for file in spec.files:
        path = folder / file.name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(DamagedModelError, match=re.escape(file.name)):
            opening.open_model(spec)
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert parsed == []


def test_a_changed_snapshot_reaches_no_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"text {number}" for number in range(20)]
    vectors = fake_models.BagEncoder().encode_passages(texts, titles=[""] * 20)
    with Index.create(tmp_path, fake_models.identity()) as index:
        index.write(
            [
                PreparedDocument(Document(t, "", t, f"/{t}"), (Span(0, len(t)),), vectors[n : n + 1])
                for n, t in enumerate(texts)
            ]
        )
        index.write_snapshot()
    [path] = tmp_path.glob("vectors-*.faiss")
    data = bytearray(path.read_bytes())
    data[200] ^= 0x40
    path.write_bytes(data)
    viewed: list[np.ndarray] = []
    original = vector_index._faiss_view
    monkeypatch.setattr(vector_index, "_faiss_view", lambda codes: viewed.append(codes.copy()) or original(codes))
    with Index.open(tmp_path) as index:
        index.prepare()
        assert "its checksum differs" in index.notices[0]
    assert [codes.tobytes() for codes in viewed] == [vectors.astype("<f2").tobytes()]


# ---- a question is words, whatever its signs -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    texts = [
        "the whale sings near and not",
        "an orca or a seal",
        "title text rowid rank",
        "",
        'whale* "quoted" NEAR(x)',
    ]
    with Index.create(tmp_path_factory.mktemp("untrusted") / "index", fake_models.identity()) as index:
        for number, text in enumerate(texts):
            vectors = fake_models.BagEncoder().encode_passages([text], titles=[""])[: bool(text)]
            document = Document(f"d{number}", "heading whale", text, f"/d{number}")
            index.write([PreparedDocument(document, (Span(0, len(text)),) if text else (), vectors)])
        yield index


signs = st.sampled_from(
    [*"\"'*^():+-{},.;\\ \0\t", " AND ", " OR ", " NOT ", "NEAR(", ", 2)", "title:", "{text}:", "--"]
)
names = st.sampled_from(["whale", "orca", "seal", "near", "and", "quoted", "title", "rank", "x", "zebra", "é", "東京"])
questions = st.lists(st.one_of(signs, names, st.text(max_size=4)), max_size=12).map("".join)


# Words in quotes, OR-ed, and pairs of them that only score.
SHAPE = r'("[^"\s]+"( OR "[^"\s]+")*( OR NEAR\("[^"\s]+" "[^"\s]+", \d+\))*)?'


@given(questions)
def test_a_question_finds_what_its_words_find(small_index: Index, question: str) -> None:
    """Its passages are those of its words taken one by one, so no sign in it has any effect, and none is an error."""
    for near in (False, True):
        expression = text_expression(question, near=near)
        assert re.fullmatch(SHAPE, expression)
        assert bool(expression) or not has_words(question)
        expected: set[int] = set()
        for word in re.findall(r'"[^"]+"', expression):
            expected |= {i for i, _ in small_index.search_text(word, top_k=99)}
        assert {i for i, _ in small_index.search_text(expression, top_k=99)} == expected


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("whale AND orca", {1, 2, 3, 4}),  # any of them; "whale" stands in every title
        ("zebra NOT whale", {1, 2, 3, 4}),
        ("rowid: zebra", {3}),
        ("zebr*", set()),
        ('"orca seal"', {2}),
        ("NEAR(orca seal, 0)", {1, 2, 4}),
        ("orca\0seal", {2}),
        ('") OR passages_fts MATCH ("orca', {2}),
        ("'; DROP TABLE passages_fts; --seal", {2}),
    ],
)
def test_syntax_by_example(small_index: Index, question: str, found: set[int]) -> None:
    ids = [i for i, _ in small_index.search_text(text_expression(question), top_k=99)]
    documents = {int(passage.doc_id[1:]) + 1 for passage in small_index.passages(ids).values()}
    assert {number if number < 5 else 4 for number in documents} == found
    assert len(small_index) == 4
