"""What is asked of performance, and what counts as fast enough: the table that every benchmark and report reads.

A bar is a ratio ("x": so many times as fast as what it is compared with) or an amount with a unit. `must` and `aim` are
None where a figure is only reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Bar:
    """One question: what is measured, compared with what, and how much is enough.

    Attributes:
        key: name of the figure in the results.
        benchmark: the file in this folder that answers it, without ending.
        question: what is measured.
        against: what it is compared with; "" where it stands for itself.
        unit: "x" for a ratio, else the unit of the figure.
        must: least (or most) that is good enough.
        aim: what we would like.
        better: which way is good.
    """

    key: str
    benchmark: str
    question: str
    against: str
    unit: str
    must: float | None
    aim: float | None
    better: Better

    def verdict(self, value: float) -> str:
        """Return "aim", "must" or "missed" for a measured value, "reported" where there is no bar."""
        sign = 1.0 if self.better == "higher" else -1.0
        if self.aim is not None and sign * value >= sign * self.aim:
            return "aim"
        if self.must is not None:
            return "must" if sign * value >= sign * self.must else "missed"
        return "reported"


_REFERENCE = "reference loop, same network (batch 1, padded to 384, one synchronous request)"
_ANSWERED = "question to answer, warm, top_k 5"

BARS = (
    Bar("squad.reference", "indexing_squad", "indexing SQuAD paragraphs", _REFERENCE, "x", 2.0, 2.6, "higher"),
    Bar(
        "squad.published",
        "indexing_squad",
        "indexing SQuAD paragraphs",
        "reference loop, network of the published encoder's shape (8 x 512, int8, 1024-D)",
        "x",
        4.0,
        6.0,
        "higher",
    ),
    Bar(
        "squad.pytorch",
        "indexing_squad",
        "encoding SQuAD paragraphs",
        "same encoder, fp32, PyTorch, sorted batches",
        "x",
        3.0,
        5.0,
        "higher",
    ),
    Bar(
        "squad.onnxruntime",
        "indexing_squad",
        "encoding SQuAD paragraphs",
        "same int8 network, ONNX Runtime, best settings",
        "x",
        1.0,
        1.3,
        "higher",
    ),
    Bar("wiki.reference", "indexing_wiki", "indexing 3,000 full passages", _REFERENCE, "x", 1.0, 1.15, "higher"),
    Bar("encoder.share", "encoder_share", "share of time in the network while indexing", "", "%", 85.0, 95.0, "higher"),
    Bar(
        "encoder.peak",
        "encoder_share",
        "int8 operations per second in the encoder",
        "measured int8 matrix peak of the machine",
        "%",
        None,
        60.0,
        "higher",
    ),
    *(
        Bar(f"question.{key}.{part}", "question", f"{_ANSWERED}, {part}", against, "x", must, aim, "higher")
        for key, against, must, aim in (
            ("reference", "reference way, same networks (five static windows of 384, one after another)", 1.8, 3.0),
            ("published", "reference way, networks of the published small pair's shape", 4.0, 7.0),
            ("pytorch", "same reader, fp32, PyTorch, batched", 3.0, 5.0),
        )
        for part in ("p50", "p95")
    ),
    Bar("cold.query", "cold_start", "cold `odqa query`, 5,000 documents, whole process", "", "s", 1.2, 0.6, "lower"),
    Bar("cold.import", "cold_start", "`import odqa`, whole process", "", "s", 0.15, 0.05, "lower"),
    Bar("cold.help", "cold_start", "`odqa --help`, whole process", "", "s", 0.4, 0.2, "lower"),
    Bar(
        "batch.one",
        "batch_questions",
        "1,000 questions in batches",
        "one at a time, same program",
        "x",
        1.5,
        2.5,
        "higher",
    ),
    *(
        Bar(
            f"vectors.{key}",
            "vector_search",
            f"search among {shown} vectors, 1 query, recall@5 at least 0.99",
            "exact flat fp32",
            "x",
            5.0,
            20.0,
            "higher",
        )
        for key, shown in (("100k", "100,000"), ("1m", "1,000,000"))
    ),
    Bar("hybrid.p95", "hybrid_search", "hybrid search, 500,000 passages, p95", "", "ms", 120.0, 30.0, "lower"),
    Bar("disk.passage", "disk", "bytes on disk per full passage", "", "kB", 7.0, 4.5, "lower"),
    Bar("memory.index", "peak_memory", "peak memory: index 60,000 passages", "", "GB", 1.5, 1.0, "lower"),
    Bar("memory.query", "peak_memory", "peak memory: query 1,000,000 vectors", "", "GB", 3.0, 1.5, "lower"),
    Bar("growth.10k", "growth", "time per passage at 10,000 passages", "1,000 passages", "x", 1.15, 1.05, "lower"),
    Bar("growth.100k", "growth", "time per passage at 100,000 passages", "1,000 passages", "x", 1.15, 1.05, "lower"),
    Bar("threads.eight", "threads", "answers/s, 8 threads on one open index", "one thread", "x", 1.6, 1.9, "higher"),
)
BY_KEY = {bar.key: bar for bar in BARS}
