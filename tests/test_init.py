import subprocess
import sys
import types
from importlib.metadata import version
from pathlib import Path

import pytest

import odqa
import odqa.errors
import odqa.pipeline
import odqa.types

HEAVY = ("faiss", "numpy", "openvino", "rich", "sqlalchemy", "tokenizers", "typer")
DOCS = Path(__file__).parent.parent / "docs"


def loaded_after(code: str) -> set[str]:
    """Return which heavy libraries a fresh interpreter has loaded after running `code`."""
    report = f"{code}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_import_loads_nothing_heavy() -> None:
    assert loaded_after("import odqa; odqa.Span(0, 1); odqa.OdqaError; odqa.__version__; odqa.Condition") == set()


def test_every_public_name_is_there_and_listed() -> None:
    assert odqa.__all__ == sorted(odqa.__all__)
    assert dir(odqa) == odqa.__all__
    assert all(getattr(odqa, name) is not None for name in odqa.__all__)


def test_lazy_names_are_the_very_objects() -> None:
    assert odqa.open is odqa.pipeline.open
    assert odqa.check is odqa.pipeline.check
    assert odqa.QuestionAnswering is odqa.pipeline.QuestionAnswering
    assert odqa.__version__ == version("odqa")


def test_every_type_and_error_is_public() -> None:
    def classes(module: types.ModuleType) -> set[str]:
        return {
            name
            for name, value in vars(module).items()
            if isinstance(value, type) and value.__module__ == module.__name__
        }

    assert classes(odqa.errors) | classes(odqa.types) <= set(odqa.__all__)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="'odqa' has no attribute 'ask'"):
        odqa.ask  # noqa: B018


def test_every_public_name_is_documented() -> None:
    page = (DOCS / "python-api.md").read_text(encoding="utf-8")
    assert [name for name in odqa.__all__ if name not in page] == []


def test_documented_fields_are_the_fields_of_the_types() -> None:
    page = (DOCS / "python-api.md").read_text(encoding="utf-8")
    rows = {row.split("|")[1].strip(" `"): row for row in page.splitlines() if row.startswith("| `")}
    for name in odqa.__all__:
        fields = getattr(getattr(odqa, name), "__dataclass_fields__", {})
        assert [field for field in fields if f"`{field}`" not in rows[name]] == [], name
