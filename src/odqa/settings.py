"""Every default, once, with its unit. Order of precedence: argument > `ODQA_*` environment > index row > default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

DEFAULT_INDEX_DIR = Path("indexes/default")
DEFAULT_ENCODER = "odqa-encoder-small-int8"
DEFAULT_READER = "odqa-reader-small-int8"

# Lengths, in tokens with [CLS] and [SEP].
PASSAGE_TOKENS = 384  # longest encoder input of a passage, its title included
QUESTION_TOKENS = 32  # longest encoder input of a question
TITLE_TOKENS = 32  # most tokens of a title in front of a passage
READER_TOKENS = 384  # longest context window, question included
READER_QUESTION_TOKENS = 64  # most tokens of a question in a context window
DOC_STRIDE_TOKENS = 128  # tokens shared by neighbouring windows of one passage: the overlap, not the step
ANSWER_TOKENS = 30  # longest answer

# Counts.
TOP_K = 5  # passages retrieved and read
N_BEST = 5  # answers returned
SPAN_CANDIDATES = 20  # spans taken from each passage; many are variants of one answer and are merged
CANDIDATES = 100  # passages taken from each ranked list before fusion
FUSION_CONSTANT = 5.0  # rank constant of reciprocal rank fusion
FUSION_DENSE_WEIGHT = 1.0
FUSION_TEXT_WEIGHT = 0.85
QUESTION_BATCH = 32  # questions answered together by `query_many`
COMMIT_PASSAGES = 256  # passages per transaction while indexing

# Ingest.
MAX_FILE_BYTES = 100 * 1024 * 1024
MAX_RECORD_BYTES = 16 * 1024 * 1024  # one line of JSON lines

EVALUATION_STAGES = ("retrieval", "reading", "end-to-end")
MODES = ("hybrid", "dense", "text")
DEFAULT_MODE = "hybrid"


def index_dir(argument: Path | str | None, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the index folder: the argument, else `ODQA_INDEX_DIR`, else `indexes/default`."""
    if argument is not None:
        return Path(argument)
    return Path(environment.get("ODQA_INDEX_DIR") or DEFAULT_INDEX_DIR)


def encoder_name(argument: str | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the encoder asked for: the argument, else `ODQA_ENCODER`, else None (the index's own, or the default)."""
    return argument or environment.get("ODQA_ENCODER") or None


def reader_name(argument: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """Return the reader's name: the argument, else `ODQA_READER`, else the default."""
    return argument or environment.get("ODQA_READER") or DEFAULT_READER
