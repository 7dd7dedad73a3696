"""The rules of the house, read off the code with `ast`: who may import whom, who owns which library, sizes."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import odqa

SOURCE = Path(odqa.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

# Lower number, lower floor. A file imports from lower floors and from its own room; neighbours do not meet.
FLOORS = {
    "types": 0,
    "errors": 0,
    "protocols": 1,
    "settings": 1,
    "ingest": 2,
    "models": 2,
    "store": 2,
    "metrics": 2,
    "words": 2,
    "ahead": 2,
    "retriever": 3,
    "reader": 3,
    "indexing": 4,
    "model_checks": 4,
    "upkeep": 4,
    "pipeline": 5,
    "evaluation": 6,
    "bench": 6,
    "printable": 6,
    "outcome": 7,
    "arguments": 7,
    "rendering": 8,
    "options": 8,
    "model_rendering": 9,
    "model_commands": 10,
    "bench_command": 10,
    "cli": 11,
    "__main__": 12,
}
OWNERS = {
    "faiss": {"store/vector_index.py"},
    "sqlalchemy": {"store/schema.py", "store/metadata_store.py"},
    "sqlite3": {"store/schema.py"},
    "openvino": {
        "models/runtime.py",
        "models/streams.py",
        "models/compiled.py",
        "models/embeddings.py",
        "models/huggingface/graph.py",
        "models/huggingface/quantize.py",
    },
    "tokenizers": {"models/runtime.py"},
    "typer": {"bench_command.py", "cli.py", "model_commands.py", "options.py"},
    "rich": {"rendering.py"},
    "pypdfium2": {"ingest/*"},
    "docx": {"ingest/*"},
    "lxml": {"ingest/*"},
    "charset_normalizer": {"ingest/*"},
    "safetensors": {"models/huggingface/weights.py"},
    "nncf": {"models/huggingface/quantize.py"},
}
HEAVY = ["faiss", "openvino", "sqlalchemy", "tokenizers", "typer", "rich", "numpy"]


def room_of(path: Path) -> str:
    relative = path.relative_to(SOURCE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports_of(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            names.append(ast.literal_eval(node.args[0]))
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    room = room_of(path)
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "odqa" or room == "__init__":
            continue
        assert len(parts) > 1, f"{path} imports the package root"
        if room == "__main__" or parts[1] == room:
            continue
        assert parts[1] in FLOORS, f"{path} imports {name}, which stands on no floor"
        low_neighbour = FLOORS[room] == FLOORS[parts[1]] and FLOORS[room] < 2
        assert FLOORS[parts[1]] < FLOORS[room] or low_neighbour, f"{path} imports {name}, which is not below it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_heavy_libraries_have_one_owner(path: Path) -> None:
    relative = path.relative_to(SOURCE)
    for name in imports_of(path):
        owners = OWNERS.get(name.split(".")[0])
        if owners is not None:
            allowed = any(relative.match(owner) for owner in owners)
            assert allowed, f"{relative} imports {name}, which belongs to {', '.join(sorted(owners))}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 380, f"{path} is too long"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node) or ""
            body = (node.end_lineno or 0) - node.lineno - len(docstring.splitlines())
            assert body <= 50, f"{path}: {node.name} has {body} lines"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_question_wakes_the_threads_of_a_blas(path: Path) -> None:
    """After a product of matrices NumPy's BLAS keeps its threads awake for a while, in the way of the networks."""
    if room_of(path) in {"store", "retriever", "reader", "pipeline"}:
        found = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        assert not any(isinstance(node, ast.MatMult) for node in found)


def test_every_room_has_a_floor() -> None:
    assert {room_of(path) for path in FILES} - {"__init__"} <= set(FLOORS)


def test_training_is_not_imported() -> None:
    for path in FILES:
        assert not any(name.split(".")[0] in ("torch", "transformers", "training") for name in imports_of(path))


def test_importing_odqa_loads_nothing_heavy() -> None:
    code = f"import sys, odqa; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
