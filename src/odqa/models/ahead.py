"""Models that load while the command that needs them is still being imported; nothing heavy is imported here.

Most of what loading a model takes is native code, which runs beside Python's imports. Only the command line does this:
it is what starts from nothing at every question.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from odqa.models.registry import ModelSpec
    from odqa.models.runtime import Network, Tokenizer

_Loading = Future[tuple["Tokenizer", "Network"]]

_begun: dict[str, _Loading] = {}


def begin(names: Sequence[str]) -> threading.Thread:
    """Load models of the registry one after another in a thread of their own, which is returned."""
    loading: dict[str, _Loading] = {name: Future() for name in names}
    _begun.update(loading)
    thread = threading.Thread(target=_load, args=(loading,))
    thread.start()
    return thread


def take(spec: ModelSpec) -> _Loading | None:
    """Return the model that was begun under this name, once; None where none was. It raises what loading raised."""
    return _begun.pop(spec.name, None)


def _load(loading: dict[str, _Loading]) -> None:
    for name, future in loading.items():
        try:
            from odqa.models.opening import load_model
            from odqa.models.registry import find

            future.set_result(load_model(find(name)))
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever takes the model
            future.set_exception(error)
