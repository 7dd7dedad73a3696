"""One process at a time changes the files of a model: a lock of the operating system, which dies with its process."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from odqa.errors import ModelError
from odqa.models.registry import models_folder

LOCKS = ".locks"  # in the models folder, apart from the models: a model's own folder is removed and replaced
POLL_SECONDS = 0.1

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def model_lock(
    name: str, *, environment: Mapping[str, str] = os.environ, waiting: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold the lock of a model; wait for another holder as long as it takes, after one call of `waiting`.

    The file `.locks/NAME` in the models folder stays when the lock is released. Two holders exclude each other within a
    process too.

    Raises:
        ModelError: the models folder cannot be written to.
    """
    place = models_folder(environment=environment)
    try:
        (place / LOCKS).mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place / LOCKS / name, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        raise ModelError(
            f"the models folder {place} cannot be written to ({error.strerror}); "
            "make it writable, or name another with ODQA_MODELS_DIR"
        ) from error
    try:
        if not _locked(descriptor):
            if waiting is not None:
                waiting()
            while not _locked(descriptor):
                time.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        return _try_lock(descriptor)
    except OSError as error:
        raise ModelError(
            f"the models folder allows no locks of files ({error.strerror}); name a folder of a local disk with "
            "ODQA_MODELS_DIR"
        ) from error
