"""How long does it take from a question to its answer?

    python benchmarks/question.py --squad dev-v1.1.json.gz

Everything is warm: the index is open, the models are loaded, and each way has answered other questions before, so that
OpenVINO has made its kernels for the usual lengths. At each question four ways take their turn: odqa; the
reference way on the same networks (the question padded to 32 tokens, exact search in memory, every window of the five
best passages padded to 384 tokens, one after another); the reference way on networks of the published small pair's
shape, which read the same passages; and odqa's search with the same reader in float32 through PyTorch, the five
passages in one batch (needs the extra `training`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import odqa
from common import fresh_folder, in_turn_over, percentiles, run, say, times_as_fast
from figures import Measured, Spread, figure
from made_index import index_lines
from material import Piece, chosen, paragraphs, questions, write_lines
from odqa import settings
from odqa.models.registry import BUNDLED
from odqa.pipeline import QuestionAnswering
from odqa.reader.spans import best_spans, word_bounds
from odqa.reader.windows import windows
from odqa.retriever.encoder import load_encoder
from published import published_network
from reference import QUESTION_TOKENS, ReferenceEncoder, ReferenceReader, ReferenceSearch

TOP_K = 5
WARM_QUESTIONS = 60
Ways = dict[str, Callable[[str], object]]


def measure(options: argparse.Namespace, work: Path) -> Measured:
    """Index the paragraphs, then ask the questions in all ways in turn."""
    texts = [piece.text for piece in paragraphs(options.squad)]
    known = questions(options.squad)
    asked = chosen(known, 4 if options.quick else options.questions)
    others = chosen([one for one in known if one not in set(asked)] or known, 1 if options.quick else WARM_QUESTIONS)
    if options.quick:
        texts = chosen(texts, 8)
    measured = Measured(settings={"passages": len(texts), "questions": len(asked), "rounds": options.rounds})
    encoder = load_encoder(settings.DEFAULT_ENCODER)
    with fresh_folder(work) as folder:
        index_lines(folder / "index", write_lines(folder / "p.jsonl", [Piece("", text) for text in texts]), encoder)
        with odqa.open(folder / "index") as qa:
            vectors = encoder.encode_passages(texts, titles=[""] * len(texts))
            ways = ways_of(qa, texts, vectors, work, quick=options.quick)
            if find_spec("torch") and find_spec("transformers"):
                ways["pytorch"] = torch_way(qa)
            else:
                measured.left_out.append("PyTorch: install the extra `training`")
            for question in others:
                for way in ways.values():
                    way(question)
            say("all ways are warm")
            seconds = in_turn_over(ways, asked, options.rounds, warm=0)
    for key in ("reference", "published", "pytorch", "reference, own precision"):
        for part in (50, 95) if key in seconds else ():
            ratio = times_as_fast(percentiles(seconds["odqa"], part), percentiles(seconds[key], part))
            name = f"question.{key}.p{part}" if "," not in key else f"against {key}, p{part}"
            measured.figures.append(figure(name, ratio, "x"))
    for name, rounds in seconds.items():
        for part in (50, 95):
            measured.figures.append(figure(f"{name}: p{part}", Spread.of(percentiles(rounds, part)) * 1e3, "ms"))
    return measured


def ways_of(qa: QuestionAnswering, texts: list[str], vectors: np.ndarray, work: Path, *, quick: bool) -> Ways:
    """Return odqa's way and the reference ways."""
    search = ReferenceSearch(vectors)
    exact = ReferenceEncoder(BUNDLED / "encoder.xml", QUESTION_TOKENS)
    large = ReferenceEncoder(published_network("encoder", work, quick=quick), QUESTION_TOKENS)
    readers = {
        "reference": ReferenceReader(BUNDLED / "reader.xml"),
        "reference, own precision": ReferenceReader(BUNDLED / "reader.xml", precision=None),
        "published": ReferenceReader(published_network("reader", work, quick=quick)),
    }
    same: dict[str, list[str]] = {}  # the stand-ins' vectors say nothing, so they read what the real encoder found

    def nearest(question: str) -> list[str]:
        if question not in same:
            same[question] = [texts[row] for row in search.nearest(exact.encode([question])[0], TOP_K)]
        return same[question]

    def reference(name: str) -> Callable[[str], object]:
        def way(question: str) -> object:
            found = search.nearest(exact.encode([question])[0], TOP_K)
            return readers[name].answer(question, [texts[row] for row in found])

        return way

    def published(question: str) -> object:
        search.nearest(large.encode([question])[0], TOP_K)
        return readers["published"].answer(question, nearest(question))

    return {
        "odqa": lambda question: qa.query(question, top_k=TOP_K),
        "reference": reference("reference"),
        "reference, own precision": reference("reference, own precision"),
        "published": published,
    }


def torch_way(qa: QuestionAnswering) -> Callable[[str], object]:
    """Return odqa's search with the reader in PyTorch, the windows of all passages in one batch."""
    from pytorch_model import TorchBert
    from weights import bundled_weights

    bert, words = TorchBert(bundled_weights("reader")), qa.encoder.tokenizer

    def way(question: str) -> object:
        texts = [found.passage.text for found in qa.search(question, top_k=TOP_K)]
        encodings = words.encode_batch(texts)
        cut = windows(words.encode(question).ids, encodings, cls_id=words.cls_id, sep_id=words.sep_id)
        found = []
        logits = bert.logits([one.ids for one in cut], [one.token_types for one in cut])
        for window, (start, end) in zip(cut, logits, strict=True):
            first, last = word_bounds(words.continues[encodings[window.passage].ids])
            part = slice(window.first_token, window.first_token + window.context_tokens)
            found += best_spans(
                start,
                end,
                context_start=window.context_start,
                word_first=first[part],
                word_last=last[part],
                n_best=settings.SPAN_CANDIDATES,
            )
        return max(found, key=lambda span: span.score)

    return way


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument of this benchmark."""
    parser.add_argument("--questions", type=int, default=100, help="questions, spread evenly over the file")


if __name__ == "__main__":
    run(__file__, __doc__, measure, add=arguments, libraries=("torch", "transformers"))
