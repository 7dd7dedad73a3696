"""Open-domain question answering over a folder of documents: offline, extractive, on an ordinary CPU.

    import odqa

    with odqa.open("indexes/default") as qa:
        result = qa.query("Who designed the Town Hall?")
        print(result.answer.text if result.answer else "The documents do not say.")

`import odqa` is quick: the heavy libraries are loaded when an index is opened.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from odqa.errors import (
    DamagedIndexError,
    DamagedModelError,
    IndexMismatchError,
    IngestError,
    LockedIndexError,
    ModelError,
    NoIndexError,
    OdqaError,
    SkippedFileError,
    StoreError,
    UnknownModelError,
)
from odqa.types import (
    Answer,
    CheckReport,
    Document,
    IndexProgress,
    IndexReport,
    IndexStatus,
    Passage,
    Place,
    Problem,
    QueryResult,
    RetrievedPassage,
    Section,
    SkippedFile,
    Span,
)

if TYPE_CHECKING:
    from odqa.pipeline import QuestionAnswering, check, open  # noqa: A004 - `odqa.open`, as `gzip.open`
    from odqa.store.filters import Condition

    __version__: str

# Loaded at first use: name -> module.
_LAZY = {
    "Condition": "odqa.store.filters",
    "QuestionAnswering": "odqa.pipeline",
    "check": "odqa.pipeline",
    "open": "odqa.pipeline",
}

__all__ = [
    "Answer",
    "CheckReport",
    "Condition",
    "DamagedIndexError",
    "DamagedModelError",
    "Document",
    "IndexMismatchError",
    "IndexProgress",
    "IndexReport",
    "IndexStatus",
    "IngestError",
    "LockedIndexError",
    "ModelError",
    "NoIndexError",
    "OdqaError",
    "Passage",
    "Place",
    "Problem",
    "QueryResult",
    "QuestionAnswering",
    "RetrievedPassage",
    "Section",
    "SkippedFile",
    "SkippedFileError",
    "Span",
    "StoreError",
    "UnknownModelError",
    "__version__",
    "check",
    "open",
]


def __getattr__(name: str) -> object:
    """Load a name of `__all__` that is not there yet."""
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("odqa")
    elif name in _LAZY:
        value = getattr(import_module(_LAZY[name]), name)
    else:
        raise AttributeError(f"module 'odqa' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, those that are not loaded yet included."""
    return sorted(__all__)
