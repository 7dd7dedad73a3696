"""Every error that odqa raises on purpose.

    OdqaError
    ├── IngestError            a file cannot be turned into documents
    │   └── SkippedFileError   the first skipped file, under --strict
    ├── ModelError             a model cannot be used
    │   ├── UnknownModelError  no entry of that name in the registry
    │   ├── DownloadError      a file of a model could not be fetched, or is not the right one
    │   └── DamagedModelError  a model file is missing or is not the one that the registry names
    │       └── MissingModelError  none of its files is here: it has not been pulled
    └── StoreError             an index cannot be used
        ├── NoIndexError       there is none in that folder, or it holds no documents
        ├── IndexMismatchError made by another encoder, other settings or a newer version
        ├── LockedIndexError   another process is writing to it
        └── DamagedIndexError  SQLite cannot be read; nothing was changed

Each message says what happened, to which file or name, and what to do. Wrong arguments are `ValueError`, not in this
tree: they are mistakes of the caller, not of the data.
"""

from __future__ import annotations


class OdqaError(Exception):
    """Base of every error in this file; the command line shows its message as one line and exits with 1."""


class IngestError(OdqaError):
    """A file cannot be turned into documents; the message is the reason, fit for the report of skipped files."""


class SkippedFileError(IngestError):
    """A file was skipped while `strict` was asked for."""


class ModelError(OdqaError):
    """A model cannot be used."""


class UnknownModelError(ModelError):
    """The registry has no model of this name."""


class DamagedModelError(ModelError):
    """A model file is missing, or its size or checksum is not the registry's."""


class MissingModelError(DamagedModelError):
    """The model is known, but has not been pulled."""


class DownloadError(ModelError):
    """A file of a model could not be fetched, or what came is not the right file."""


class StoreError(OdqaError):
    """An index cannot be used."""


class NoIndexError(StoreError):
    """The folder holds no index, or an index without documents."""


class IndexMismatchError(StoreError):
    """The index was made by another encoder, with other passage settings, or by a newer version of odqa."""


class LockedIndexError(StoreError):
    """Another process is writing to the index."""


class DamagedIndexError(StoreError):
    """The SQLite file cannot be read; it is left as it is."""
