import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate_docs"] = module
    spec.loader.exec_module(module)
    return module


def test_no_page_is_stale(generate: ModuleType) -> None:
    stale = [
        path.name for path in DOCS.glob("*.md") if generate.renewed(path.read_text("utf-8")) != path.read_text("utf-8")
    ]
    assert stale == [], "run `python docs/generate.py`"


def test_every_part_stands_in_a_page(generate: ModuleType) -> None:
    pages = "".join(path.read_text("utf-8") for path in DOCS.glob("*.md"))
    assert set(re.findall(r"<!-- generated: (.+?) -->", pages)) == set(generate.parts())


def test_a_stale_part_is_found_and_an_unknown_one_named(generate: ModuleType) -> None:
    page = (DOCS / "cli.md").read_text("utf-8")
    assert generate.renewed(page.replace("| `--json` |", "| `--yaml` |")) == page
    with pytest.raises(KeyError, match="odqa sing"):
        generate.renewed("<!-- generated: odqa sing -->\n<!-- end -->")


def test_options_and_their_defaults_stand_in_the_table(generate: ModuleType) -> None:
    part = generate.parts()["odqa query"]()
    assert "    odqa query [OPTIONS] [QUESTION]\n" in part
    assert "| `--top-k NUMBER` | Passages retrieved. | `5` |" in part
    assert "| `--mode hybrid\\|dense\\|text` | How passages are found. | `hybrid` |" in part


def test_links_between_pages_lead_somewhere() -> None:
    for path in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+\.md)", path.read_text("utf-8")):
            assert (DOCS / target).exists(), f"{path.name}: {target}"
