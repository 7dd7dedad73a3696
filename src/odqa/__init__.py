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
    DownloadError,
    IndexMismatchError,
    IngestError,
    LockedIndexError,
    MissingModelError,
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
    CompactReport,
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
    from odqa.pipeline import QuestionAnswering, check, compact, open  # noqa: A004 - `odqa.open`, as `gzip.open`
    from odqa.store.filters import AllOf, AnyOf, Condition

    __version__: str

# Loaded at first use: name -> module.
_LAZY = {
    "AllOf": "odqa.store.filters",
    "AnyOf": "odqa.store.filters",
    "Condition": "odqa.store.filters",
    "QuestionAnswering": "odqa.pipeline",
    "check": "odqa.pipeline",
    "compact": "odqa.pipeline",
    "open": "odqa.pipeline",
}

__all__ = [
    "AllOf",
    "Answer",
    "AnyOf",
    "CheckReport",
    "CompactReport",
    "Condition",
    "DamagedIndexError",
    "DamagedModelError",
    "Document",
    "DownloadError",
    "IndexMismatchError",
    "IndexProgress",
    "IndexReport",
    "IndexStatus",
    "IngestError",
    "LockedIndexError",
    "MissingModelError",
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
    "compact",
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
