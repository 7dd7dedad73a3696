"""The lexical half of an encoder's vectors: a bag of word pieces, not trained but put into the finished network.

A mean over tokens says what a text is about and forgets its rarer words. So each word piece has a fixed random code of
640 signs and a weight: the square root of its rarity (inverse document frequency), half of that where it continues a
word, 0 for stop words and signs. A piece that occurs n times counts n / (n + 1) times its weight. The sum, at length 1,
is turned by a matrix whose columns are orthogonal to those of the dense head, and added to the dense half. The inner
product of two vectors is then the likeness of the dense halves plus `SHARE` times that of the bags, but for the noise
of the codes (one part in 25 of a bag's length), all divided by 1 + `SHARE`.

Beside a full-text list, which knows words better, a question does without it: `token_type_ids` of 1 leave its bag out.
All bags have one length, so such a question orders passages by their dense halves alone. For that, [CLS] has a weight
too small to be seen beside any other: it is the bag of a text without words.
"""

from __future__ import annotations

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13
from tokenizers import Tokenizer

import data
import loop

SHARE = 0.3
WIDTH, HEAD_WIDTH = 1024, 384
CODE_ROWS, CODE_SEED = 175, 5  # the code of a piece is the product of two rows: 175 * 175 codes are enough for 30,522
CONTINUED = 0.3  # weight of a piece that continues a word, against one that begins it
RAREST = 1.6  # weight of a piece that one in 13 of the paragraphs holds, and of all that are rarer
WORDLESS = 1e-4  # weight of [CLS]; the bag of a usual text is a million times as long
TINY = 1e-6

Array = NDArray[np.float32]


def piece_weights(paragraphs: list[str], tokenizer: Tokenizer) -> Array:
    """Weight of each word piece, by how few of the paragraphs hold it: float32 [vocabulary], at least 0."""
    found_in = np.zeros(tokenizer.get_vocab_size())
    for encoding in tokenizer.encode_batch(paragraphs):
        found_in[list(set(encoding.ids))] += 1
    weights = np.minimum(np.sqrt(np.log((len(paragraphs) + 1) / (found_in + 1))), RAREST)
    for piece, number in tokenizer.get_vocab().items():
        if piece.startswith("##"):
            weights[number] *= CONTINUED
        elif piece in data.STOP_WORDS or piece.startswith("[") or not any(sign.isalnum() for sign in piece):
            weights[number] = 0.0
    weights[loop.CLS] = WORDLESS
    return weights.astype(np.float32)


def codes() -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Two tables of signs, int8 [175, 640]: a piece's code is row p % 175 of one times row p // 175 of the other."""
    signs = np.random.default_rng(CODE_SEED).integers(0, 2, (2, CODE_ROWS, WIDTH - HEAD_WIDTH), dtype=np.int8) * 2 - 1
    return signs[0], signs[1]


def complement(head: Array) -> Array:
    """Orthonormal rows [640, 1024] that are orthogonal to every column of the dense head [1024, 384]."""
    whole, _ = np.linalg.qr(head.astype(np.float64), mode="complete")
    return np.ascontiguousarray(whole[:, HEAD_WIDTH:].T, dtype=np.float32)


def add_lexical_half(model: ov.Model, weights: Array, head: Array) -> None:
    """Add the lexical half to an encoder's graph, in float32.

    `weights` are those of the pieces, float32 [vocabulary]; `head` is the dense head, float32 [1024, 384].
    The network itself reads token types of 0 from here on, whatever it is given: they are the switch now.
    """
    inputs = {name: port for port in model.inputs for name in port.names}
    kinds, numbers = inputs["token_type_ids"], inputs["input_ids"]
    zeros = opset13.multiply(kinds, np.int32(0))
    for reader in [target for target in kinds.get_target_inputs() if target.get_node() != zeros]:
        reader.replace_source_output(zeros.output(0))

    def gather(table: np.ndarray, at: ov.Node | ov.Output) -> ov.Node:
        return opset13.convert(opset13.gather(opset13.constant(table), at, np.int32(0)), "f32")

    rest, quotient = codes()
    places = opset13.unsqueeze(numbers, np.int32(1)), opset13.unsqueeze(numbers, np.int32(2))
    counts = opset13.reduce_sum(opset13.convert(opset13.equal(*places), "f32"), np.int32(2))
    weight = opset13.divide(gather(weights, numbers), opset13.add(counts, np.float32(1)))
    code = opset13.multiply(
        gather(rest, opset13.mod(numbers, np.int32(CODE_ROWS))),
        gather(quotient, opset13.divide(numbers, np.int32(CODE_ROWS))),
    )
    summed = opset13.matmul(opset13.unsqueeze(weight, np.int32(1)), code, False, False)
    summed = opset13.squeeze(summed, np.int32(1))
    length = opset13.maximum(opset13.reduce_l2(summed, np.int32(1), keep_dims=True), np.float32(TINY))
    turned = opset13.constant((complement(head) * SHARE**0.5).astype(np.float16))
    words = opset13.matmul(opset13.divide(summed, length), opset13.convert(turned, "f32"), False, False)
    first = opset13.convert(opset13.slice(kinds, np.array([0]), np.array([1]), np.array([1]), np.array([1])), "f32")
    words = opset13.multiply(words, opset13.subtract(np.float32(1), first))

    result = model.get_results()[0]
    both = opset13.add(result.input_value(0), words)
    length = opset13.maximum(opset13.reduce_l2(both, np.int32(1), keep_dims=True), np.float32(TINY))
    whole = opset13.divide(both, length)
    whole.set_friendly_name("embedding")
    result.input(0).replace_source_output(whole.output(0))
    whole.output(0).get_tensor().set_names({"embedding"})
    model.validate_nodes_and_infer_types()
