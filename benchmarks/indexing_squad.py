"""How fast are SQuAD paragraphs indexed?

    python benchmarks/indexing_squad.py --squad dev-v1.1.json.gz

Compared in turn: the reference loop on the same network, and on one of the published encoder's shape; the same encoder
in float32 through PyTorch (needs the extra `training`); the same int8 network through ONNX Runtime (extra `bench`).

odqa's side is the whole of `odqa index` (parsing, cutting, encoding, writing to disk) where it is compared with the
reference loop, which holds its vectors in memory. It is the encoder alone, tokenising included, where it is compared
with PyTorch and ONNX Runtime, which do just that.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from common import fresh_folder, in_turn, machine, run, say, times_as_fast
from figures import Measured, Spread, figure
from made_index import index_lines
from material import Piece, chosen, mean_tokens, paragraphs, write_lines
from odqa import settings
from odqa.ingest.chunker import PassageChunker
from odqa.models.opening import open_model
from odqa.models.registry import BUNDLED, find
from odqa.models.runtime import Row
from odqa.retriever.encoder import DenseEncoder, load_encoder
from published import published_network
from reference import CONTEXT_TOKENS, ReferenceEncoder

MOST_DIFFERENCE = 0.1  # L2, between vectors of length 1: the same network, rounded elsewhere; passages are 0.7 apart
LEAST_COSINE = 0.9  # between int8 and float32

Ways = dict[str, Callable[[], object]]


def measure(options: argparse.Namespace, work: Path) -> Measured:
    """Time all ways in turn on the same paragraphs."""
    count = 6 if options.quick else options.passages
    encoder = load_encoder(settings.DEFAULT_ENCODER)
    texts = chosen(whole([piece.text for piece in paragraphs(options.squad)], encoder), count)
    measured = Measured(settings={"passages": count, "tokens": round(mean_tokens(texts), 1), "rounds": options.rounds})
    with fresh_folder(work) as folder:
        lines = write_lines(folder / "paragraphs.jsonl", [Piece("", text) for text in texts])
        ways: Ways = {
            "odqa index": lambda: indexed(folder, lines, encoder, count),
            "odqa encoder": lambda: encoder.encode_passages(texts, titles=[""] * count),
            **reference_ways(texts, work, quick=options.quick),
            **other_libraries(texts, encoder, measured, quick=options.quick),
        }
        seconds = in_turn(ways, rounds=options.rounds)
    index, alone = seconds["odqa index"], seconds["odqa encoder"]
    for key, ours, other in (
        ("squad.reference", index, "reference"),
        ("squad.published", index, "published shape"),
        ("squad.pytorch", alone, "PyTorch"),
        ("squad.onnxruntime", alone, "ONNX Runtime"),
        ("index, against the reference loop at OpenVINO's own precision", index, "reference, own precision"),
        ("encoder alone, against the reference loop", alone, "reference"),
    ):
        if other in seconds:
            measured.figures.append(figure(key, times_as_fast(ours, seconds[other]), "x"))
    for name, of_rounds in seconds.items():
        rate = Spread.of([count / one for one in of_rounds])
        measured.figures.append(figure(f"{name}: passages per second", rate, "passages/s"))
    return measured


def whole(texts: list[str], encoder: DenseEncoder) -> list[str]:
    """Return the paragraphs that become one passage each: of others the reference loop sees only the beginning."""
    chunker = PassageChunker(encoder.tokenizer)
    return [text for text in texts if len(chunker.split(text, title="", sections=())) == 1]


def indexed(folder: Path, lines: Path, encoder: DenseEncoder, count: int) -> None:
    """Index into a new folder, and see that every paragraph has become one passage."""
    with fresh_folder(folder) as passing:
        passages = index_lines(passing / "index", lines, encoder).passages
        if passages != count:
            raise SystemExit(f"{count} paragraphs became {passages} passages: the reference loop would do other work")


def reference_ways(texts: list[str], work: Path, *, quick: bool) -> Ways:
    """Return the reference loops: at odqa's precision, at OpenVINO's own, and on the published shape."""
    own = BUNDLED / "encoder.xml"
    exact = ReferenceEncoder(own, CONTEXT_TOKENS)
    free = ReferenceEncoder(own, CONTEXT_TOKENS, precision=None)
    large = ReferenceEncoder(published_network("encoder", work, quick=quick), CONTEXT_TOKENS)
    return {
        "reference": lambda: exact.encode(texts),
        "reference, own precision": lambda: free.encode(texts),
        "published shape": lambda: large.encode(texts),
    }


def other_libraries(texts: list[str], encoder: DenseEncoder, measured: Measured, *, quick: bool) -> Ways:
    """Return what the installed libraries can do, after a look that they compute the same.

    They run the network that was trained, without the words that odqa's vectors hold beside its meaning.
    """
    from weights import bundled_weights

    ways: Ways = {}
    weights, words = bundled_weights("encoder"), encoder.tokenizer

    def rows() -> list[list[int]]:
        return [[words.cls_id, *one.ids[: CONTEXT_TOKENS - 2], words.sep_id] for one in words.encode_batch(texts)]

    ours = dense_halves(rows())
    if find_spec("onnxruntime") and find_spec("onnx"):
        from onnx_model import best_encoder, largest_difference

        some = rows()[:: max(1, len(texts) // 200)]
        onnx_encoder = best_encoder(weights, some, cores=machine()["cores"], quick=quick)
        difference = largest_difference(ours, onnx_encoder.vectors(rows()))
        measured.settings["onnxruntime"] = {"form": str(onnx_encoder.form), "largest_difference": round(difference, 4)}
        if difference > MOST_DIFFERENCE:
            raise SystemExit(f"ONNX Runtime's vectors are up to {difference:.3f} away from OpenVINO's: not the same")
        ways["ONNX Runtime"] = lambda: onnx_encoder.vectors(rows())
    else:
        measured.left_out.append("ONNX Runtime: install the extra `bench`")
    if find_spec("torch") and find_spec("transformers"):
        from pytorch_model import TorchBert

        torch_encoder = TorchBert(weights)
        cosine = float(np.einsum("nw,nw->n", ours, torch_encoder.vectors(rows())).min())
        measured.settings["pytorch"] = {"least_cosine": round(cosine, 4)}
        if cosine < LEAST_COSINE:
            raise SystemExit(f"PyTorch's float32 vectors have a cosine of {cosine:.3f} with ours: not the same network")
        ways["PyTorch"] = lambda: torch_encoder.vectors(rows())
    else:
        measured.left_out.append("PyTorch: install the extra `training`")
    say("all ways compute the same; now they are timed")
    return ways


def dense_halves(rows: list[list[int]]) -> np.ndarray:
    """Return odqa's vectors of rows of ids without their words, at length 1: float32 [len(rows), width]."""
    _, network = open_model(find(settings.DEFAULT_ENCODER))
    found = network.vectors([Row(row, [1] * len(row)) for row in rows])  # types of 1 leave the words out
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument of this benchmark."""
    parser.add_argument("--passages", type=int, default=1000, help="paragraphs, spread evenly over the file")


if __name__ == "__main__":
    run(__file__, __doc__, measure, add=arguments, libraries=("onnxruntime", "onnx", "torch", "transformers"))
