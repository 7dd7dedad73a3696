"""Every default, once, with its unit. Order of precedence: argument > `ODQA_*` environment > index row > default."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
READ_STAGES = (1, 1, 1, 1)  # passages read at first, then, ...; all others at last. Each only where it may still win
# Of a passage of the second stage, of the third, and of the later ones, so many characters are read: sentences with the
# question's words. Of longer passages a share is, up to the most.
FOCUS_CHARACTERS = (500, 500, 400)
FOCUS_SHARE = 0.7
FOCUS_MOST_CHARACTERS = 1000
SPAN_CANDIDATES = 20  # spans taken from each passage; many are variants of one answer and are merged
CANDIDATES = 100  # passages taken from each ranked list before fusion
FUSION_DENSE_WEIGHT = 1.0
FUSION_TEXT_WEIGHT = 0.9
SECOND_LOOK = 30  # best passages of the fusion whose order the evidence of single sentences may change
SECOND_DENSE_WEIGHT = 1.0
SECOND_TEXT_WEIGHT = 0.135
COVERAGE_WEIGHT = 0.273
PAIRS_WEIGHT = 0.215
STOP_WORD_WEIGHT = 0.1  # of a stop word in a pair of words; a telling word of half of the passages has 0.7
SENTENCE_WORDS = 50  # longest sentence; longer ones (tables, lists) are cut
TEXT_MATCHES = 10_000  # most passages that a hybrid search scores by words; more frequent words are left out
NEAR_TOKENS = 5  # most tokens between two neighbouring words of a question that count as a phrase of the passage
LONG_CHARACTERS = 1300  # passages of so many on average are long: full ones, not paragraphs
LEAD_PASSAGES = 5  # the lead of the best passage is that over the last of so many
LONE_LEAD = 0.3  # the lead of a passage that is the only one: that of right answers among few
QUESTION_BATCH = 32  # questions answered together by `query_many`
COMMIT_PASSAGES = 256  # passages per transaction while indexing
# A snapshot of fewer vectors is flat, exact and 2 bytes a value; one of more is binary, 1 bit a value.
BINARY_FROM_PASSAGES = 10_000
VECTOR_INDEXES = ("auto", "flat", "binary")
BENCH_SECONDS = 20.0  # that `odqa bench` measures for

# Ingest.
MAX_FILE_BYTES = 100 * 1024 * 1024
MAX_RECORD_BYTES = 16 * 1024 * 1024  # one line of JSON lines
MAX_TEXT_CHARACTERS = MAX_FILE_BYTES  # text of one document, in code points: that of the largest text file
MAX_UNPACK_RATIO = 200  # what is packed (DOCX, gzip) may unpack to so many times its size; text rarely exceeds 30
UNPACK_ALLOWANCE_BYTES = 64 * 1024 * 1024  # and to so much in any case
MEGABYTE = 1_000_000
FILE_SECONDS = 60.0  # for parsing one file in the parser process
FILE_SECONDS_PER_MB = 1.0  # and so much more for each megabyte of the file
FILE_MEMORY_MB = 1024  # memory (address space) of the parser process

EVALUATION_STAGES = ("retrieval", "reading", "end-to-end", "abstention")
DEFAULT_STAGES = EVALUATION_STAGES[:3]  # "abstention" asks every question twice more
MODES = ("hybrid", "dense", "text")
DEFAULT_MODE = "hybrid"
TASKS = ("read", "encode")  # what a model does
PRECISIONS = ("fp32", "fp16", "int8")  # of the weights of a model that is converted
DEFAULT_PRECISION: Literal["fp16"] = "fp16"
PROFILES = ("default", "omz")  # how answers are read and scored; "omz" as the reference demo does, for comparison
DEFAULT_PROFILE = "default"


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


@dataclass(frozen=True, slots=True)
class FileLimits:
    """What the parsing of one file may take."""

    seconds: float = FILE_SECONDS
    memory_mb: int = FILE_MEMORY_MB

    def seconds_for(self, size_bytes: int) -> float:
        """Return the time for a file of this size."""
        return self.seconds + FILE_SECONDS_PER_MB * size_bytes / MEGABYTE


def file_limits(environment: Mapping[str, str] = os.environ) -> FileLimits:
    """Return the limits: `ODQA_FILE_SECONDS` and `ODQA_FILE_MEMORY_MB`, else the defaults.

    Raises:
        ValueError: One of them is not a number, or not above 0.
    """
    return FileLimits(
        seconds=_positive("ODQA_FILE_SECONDS", FILE_SECONDS, environment),
        memory_mb=math.ceil(_positive("ODQA_FILE_MEMORY_MB", FILE_MEMORY_MB, environment)),
    )


def _positive(name: str, default: float, environment: Mapping[str, str]) -> float:
    words = environment.get(name) or str(default)
    try:
        value = float(words)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise ValueError(f"{name} is {words!r}; give a number above 0")
    return value
