"""Text -> word pieces, rows of ids -> numbers: the tokenizers library, and networks in OpenVINO."""

from __future__ import annotations

import contextlib
import threading
import unicodedata
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from odqa.errors import ModelError
from odqa.models.compiled import MOST_WEIGHT_BYTES, CompiledCache, compiled_network
from odqa.models.streams import Feed, Streams, Traffic
from odqa.protocols import Encoding, Vectors

if TYPE_CHECKING:
    import openvino
    import tokenizers

# Rows are padded to these lengths: OpenVINO keeps memory for every shape that it has met, so shapes must be few.
LENGTH_BUCKETS = (*range(16, 384, 16), 384, 448, 512)
BATCH_TOKENS = 1536  # a batch holds about so many tokens, padding included
STREAM_BATCH_TOKENS = 768  # the same where several batches run at once
# A call of no more tokens runs row by row: OpenVINO makes kernels for every shape that it meets, which takes longer
# than a few rows do, and rows alone have as many shapes as there are buckets.
FEW_TOKENS = 2048
# Tokens that were run where several rows waited, before a network is loaded a second time for that: what loading costs.
WORTH_TOKENS = 20_000
ROW_TOKENS = 64  # a row costs at least as much as one of so many tokens
LONGEST_WORD = 100  # code points; BERT's own rule: a longer word becomes [UNK]
_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
_TRIAL_TOKENS = (40, 72)  # lengths at which a file with fixed shapes is tried, before its dimensions are set free
_Batch = tuple[list[int], tuple[int, int]]  # places in the caller's order of rows that run together; padded shape
_traffic = Traffic()
_core_lock = threading.Lock()
_cores: list[openvino.Core] = []


class Tokenizer:
    """BERT WordPiece with offsets in code points of the original text; keeps `odqa.protocols.TextTokenizer`.

    Accents are stripped where case is lowered, unless `strip_accents` says otherwise; CJK characters stand alone. No
    special token is registered: a literal "[SEP]" becomes "[", "sep", "]". A token that was written with combining
    marks covers them, so that a span cut out of the text keeps its accents. Threads may share one tokenizer.

    Attributes:
        cls_id, sep_id, pad_id: ids of [CLS], [SEP] and [PAD].
        continues: bool [vocabulary]; True where the piece continues a word ("##...").
    """

    def __init__(self, vocabulary: Path, *, lower_case: bool, strip_accents: bool | None = None) -> None:
        """Read a vocabulary: UTF-8, one piece a line, the line number from 0 is the id.

        Raises:
            ModelError: the file cannot be read or lacks [PAD], [UNK], [CLS] or [SEP].
        """
        import tokenizers
        from tokenizers import models, normalizers, pre_tokenizers

        try:
            lines = vocabulary.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        except (OSError, ValueError) as error:
            raise ModelError(f"the vocabulary {vocabulary} cannot be read: {error}; restore the file") from error
        ids = {piece: i for i, piece in enumerate(lines)}
        lacking = [piece for piece in ("[PAD]", "[UNK]", "[CLS]", "[SEP]") if piece not in ids]
        if lacking:
            raise ModelError(f"the vocabulary {vocabulary} lacks {', '.join(lacking)}; use the file of a BERT model")
        self.cls_id, self.sep_id, self.pad_id = ids["[CLS]"], ids["[SEP]"], ids["[PAD]"]
        self.continues: NDArray[np.bool_] = np.array([piece.startswith("##") for piece in lines])
        word_piece = models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=LONGEST_WORD)  # noqa: S106
        self._tokenizer: tokenizers.Tokenizer = tokenizers.Tokenizer(word_piece)
        self._tokenizer.normalizer = normalizers.BertNormalizer(
            clean_text=True, handle_chinese_chars=True, strip_accents=strip_accents, lowercase=lower_case
        )
        self._tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    def encode(self, text: str) -> Encoding:
        """Tokenise one text; blank text gives no tokens.

        Raises:
            ValueError: the text holds half of a surrogate pair, so it is not Unicode text.
        """
        _check_unicode(text)
        return _encoding(text, self._tokenizer.encode(text, add_special_tokens=False))

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Tokenise several texts, with several threads; `encode_batch(t)[i] == encode(t[i])`.

        Raises:
            ValueError: a text holds half of a surrogate pair.
        """
        for text in texts:
            _check_unicode(text)
        found = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [_encoding(text, raw) for text, raw in zip(texts, found, strict=True)]


def _check_unicode(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text holds a lone surrogate, U+{ord(text[error.start]):04X}, at position {error.start}; "
            "it was decoded wrongly, decode its bytes again or remove the character"
        ) from error


def _encoding(text: str, raw: tokenizers.Encoding) -> Encoding:
    offsets = raw.offsets
    if not text.isascii():
        # Stripped accents at the end of a token lie outside its offsets: "cafe" + U+0301 would be cut out as "cafe".
        for i, (start, end) in enumerate(offsets):
            limit = offsets[i + 1][0] if i + 1 < len(offsets) else len(text)
            reach = end
            while reach < limit and unicodedata.category(text[reach]) == "Mn":
                reach += 1
            if reach > end:
                offsets[i] = (start, reach)
    return Encoding(raw.ids, offsets)


@dataclass(frozen=True, slots=True)
class Row:
    """One input of a network: token ids, special tokens included, and as many token types (none: all 0).

    `padding` is the number of masked tokens behind the ids whose outputs are wanted as well.
    """

    ids: Sequence[int]
    token_types: Sequence[int] = ()
    padding: int = 0

    def __post_init__(self) -> None:
        """Refuse rows that mean nothing."""
        if not self.ids or len(self.token_types) not in (0, len(self.ids)):
            raise ValueError(f"a row needs ids, and as many types or none: {len(self.ids)}, {len(self.token_types)}")
        if self.padding < 0:
            raise ValueError(f"padding is {self.padding}: it cannot be negative")

    @property
    def tokens(self) -> int:
        """Number of tokens whose outputs are wanted."""
        return len(self.ids) + self.padding


def bucket(tokens: int) -> int:
    """Return the length that a row of so many tokens is padded to."""
    return next((length for length in LENGTH_BUCKETS if length >= tokens), -(-tokens // 128) * 128)


def core() -> openvino.Core:
    """Return the process's one OpenVINO core, made (and OpenVINO imported) at the first call."""
    with _core_lock:
        if not _cores:
            import openvino

            openvino.Type.f32.to_dtype()  # two threads whose first call this is would wait for each other for ever
            _cores.append(openvino.Core())
        return _cores[0]


class Network:
    """A compiled network in OpenVINO's IR form, for encoders and readers of the BERT family.

    Inputs and outputs are bound by name, or by position where the file's names are none that the registry knows.
    Element types are the file's own. Batch and length are set free where the file allows it; a file whose shapes
    cannot be changed runs one row at a time, padded to its own length. Computes in float32 on every processor, so that
    vectors do not depend on it. Threads may share one network.
    """

    def __init__(
        self,
        network: Path,
        weights: Path,
        *,
        inputs: Sequence[str],
        outputs: Sequence[str],
        per_token: bool,
        pad_id: int = 0,
        cache: CompiledCache | None = None,
    ) -> None:
        """Read and compile a network. Verify its files first: they are parsed by native code.

        Args:
            network: the .xml file.
            weights: the .bin file.
            inputs: names among input_ids, attention_mask, token_type_ids, position_ids, in order of position.
            outputs: names in order of position.
            per_token: whether outputs are [batch, tokens] (readers), else [batch, width] (encoders).
            pad_id: the id that rows are padded with.
            cache: where the compiled network is kept for the next process; None keeps none.

        Raises:
            ModelError: OpenVINO refuses the file, or its inputs or outputs are not those of the registry.
        """
        self._cache, self._name, self._pad_id = cache, network.name, pad_id
        self._lock = threading.Lock()
        self._crowded_tokens, self._met = 0, set[int]()  # run where several rows waited; lengths of rows alone
        self._together: Streams | None = None
        self._loader: threading.Thread | None = None
        try:
            model = core().read_model(network, weights)
            self._batch_rows, self._fixed_tokens = _set_free(model, outputs=len(outputs), per_token=per_token)
            if self._fixed_tokens is not None:  # a reshape that failed half-way must leave no trace
                model = core().read_model(network, weights)
            self._alone = self._compile(model, "LATENCY")
            # A second time it takes its memory once more, which for the largest readers is gigabytes.
            self._model = model if weights.stat().st_size <= MOST_WEIGHT_BYTES else None
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ModelError(f"OpenVINO cannot load {network}: {reason}; restore the file") from error
        # The compiled network has the same ports in the same order, but has forgotten the names of layers.
        self._inputs = _bind(model.inputs, inputs, needed=["input_ids"], known=_INPUTS, path=network, kind="inputs")
        bound = _bind(model.outputs, outputs, needed=outputs, known=outputs, path=network, kind="outputs")
        self._outputs = [bound[name] for name in outputs]
        self._types = {name: self._alone.inputs[at].element_type.to_dtype() for name, at in self._inputs.items()}

    @property
    def most_tokens(self) -> int | None:
        """Tokens that a row may have in a file whose shapes cannot be changed, None where any number will do."""
        return self._fixed_tokens

    def vectors(self, rows: Sequence[Row]) -> Vectors:
        """Run an encoder: float32 [len(rows), width], in the order of the rows; needs at least one row.

        Raises:
            ValueError: there are no rows, or one is longer than a network with fixed shapes.
            ModelError: the network gave numbers that are not finite.
        """
        if not rows:
            raise ValueError("needs at least one row")
        found: list[Vectors] = [np.empty(0, np.float32)] * len(rows)
        for members, (values,) in self._run(rows):
            for place, member in enumerate(members):
                found[member] = self._finite(values[place])
        return np.stack(found)

    def logits(self, rows: Sequence[Row]) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Run a reader: for each row its start and end logits, float32 [row.tokens] each.

        What a row is padded with to fill a batch is cut off; its own `padding` is not.

        Raises:
            ValueError: a row is longer than a network with fixed shapes.
            ModelError: the network gave numbers that are not finite.
        """
        empty = np.empty(0, np.float32)
        found = [(empty, empty)] * len(rows)
        for members, (starts, ends) in self._run(rows):
            for place, member in enumerate(members):
                tokens = rows[member].tokens
                found[member] = (self._finite(starts[place, :tokens]), self._finite(ends[place, :tokens]))
        return found

    def _finite(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if not np.isfinite(values).all():
            raise ModelError(f"{self._name} gave numbers that are not finite; use another model, and report this one")
        return values.copy()  # a view would keep the padded batch alive

    def _run(self, rows: Sequence[Row]) -> Iterator[tuple[list[int], list[NDArray[np.float32]]]]:
        lengths = [row.tokens for row in rows]
        with _traffic.call() as beside:
            together = self._several(lengths, beside=beside) if beside or len(rows) > 1 else None
            streams, batch_tokens = (together, STREAM_BATCH_TOKENS) if together else (self._alone, BATCH_TOKENS)
            batches = list(self._batches(lengths, batch_tokens if sum(lengths) > FEW_TOKENS else 1))
            self._met.update(tokens for _, (count, tokens) in batches if count == 1)
            feeds = (self._feed([rows[member] for member in members], shape) for members, shape in batches)
            for (members, _), values in zip(batches, streams.run(feeds), strict=True):
                yield members, [values[at] for at in self._outputs]

    def _several(self, lengths: Sequence[int], *, beside: bool) -> Streams | None:
        """Return the network that runs several batches at once, if it is loaded; load it beside when it is worth it.

        A row alone is answered soonest with all processors at work on it. Where several wait, of one call or of several
        threads, for this network or another one, more gets done when each batch has a processor of its own.
        """
        costs = [max(ROW_TOKENS, tokens) for tokens in lengths]
        with self._lock:
            self._crowded_tokens += sum(costs)
            if self._model is not None and self._crowded_tokens >= WORTH_TOKENS:
                model, self._model = self._model, None
                self._loader = threading.Thread(target=self._load_together, args=(model,))
                self._loader.start()  # no daemon: it runs native code
        return self._together if self._together and (beside or self._together.even(costs)) else None

    def _load_together(self, model: openvino.Model) -> None:
        with contextlib.suppress(RuntimeError):  # for want of memory; all goes on as before
            together = self._compile(model, "THROUGHPUT")
            for tokens in self._met.copy():  # each stream makes its kernels now, not when a question waits for them
                deque(together.run([self._feed([Row([self._pad_id])], (1, tokens))] * together.most), maxlen=0)
            self._together = together

    def _compile(self, model: openvino.Model, performance: Literal["LATENCY", "THROUGHPUT"]) -> Streams:
        options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": performance, "ENABLE_CPU_PINNING": False}
        cache = self._cache
        if cache is not None and performance == "THROUGHPUT":
            cache = replace(cache, model=f"{cache.model}-streams")
        return Streams(*compiled_network(core(), model, options, cache), name=self._name)

    def _batches(self, lengths: Sequence[int], batch_tokens: int) -> Iterator[_Batch]:
        order = sorted(range(len(lengths)), key=lambda member: -lengths[member])  # the most memory first
        at = 0
        while at < len(order):
            tokens = self._fixed_tokens or bucket(lengths[order[at]])
            if lengths[order[at]] > tokens:
                raise ValueError(f"{self._name} takes {tokens} tokens, a row has {lengths[order[at]]}")
            most = 1 if self._batch_rows else max(1, batch_tokens // tokens)
            members = [m for m in order[at : at + most] if self._fixed_tokens or bucket(lengths[m]) == tokens]
            yield members, (self._batch_rows or len(members), tokens)
            at += len(members)

    def _feed(self, rows: Sequence[Row], shape: tuple[int, int]) -> Feed:
        arrays = {name: np.zeros(shape, self._types[name]) for name in self._inputs}
        arrays["input_ids"].fill(self._pad_id)
        if "position_ids" in arrays:
            arrays["position_ids"][:] = np.arange(shape[1])
        for place, row in enumerate(rows):
            arrays["input_ids"][place, : len(row.ids)] = row.ids
            if "attention_mask" in arrays:
                arrays["attention_mask"][place, : len(row.ids)] = 1
            if row.token_types and "token_type_ids" in arrays:
                arrays["token_type_ids"][place, : len(row.ids)] = row.token_types
        return {self._inputs[name]: array for name, array in arrays.items()}


def _set_free(model: openvino.Model, *, outputs: int, per_token: bool) -> tuple[int | None, int | None]:
    """Set batch and length free as far as the file allows; return the fixed batch and length, None where free.

    Reshaping to unknown dimensions succeeds even where a constant inside the file holds the old ones, so a file with
    fixed shapes is first tried at concrete shapes, which OpenVINO checks through to the outputs.
    """

    def reshape(batch: int, tokens: int) -> None:
        model.reshape({port: [batch, tokens] for port in model.inputs})

    def fits(batch: int, tokens: int) -> bool:
        reshape(batch, tokens)
        shapes = [list(port.shape) for port in model.outputs[:outputs]]
        return all(shape[0] == batch and (not per_token or shape[1] == tokens) for shape in shapes)

    shapes = [port.partial_shape for port in model.inputs]
    if any(len(shape) != 2 for shape in shapes):
        raise RuntimeError(f"its inputs have the shapes {shapes} instead of [batch, tokens]")
    if all(dimension.is_dynamic for shape in shapes for dimension in shape):
        return None, None
    fixed = [dimension.get_length() if dimension.is_static else None for dimension in shapes[0]]
    for batch, rows in ((2, None), (1, 1)):
        try:
            if all(fits(batch, tokens) for tokens in _TRIAL_TOKENS):
                reshape(rows or -1, -1)
                return rows, None
        except RuntimeError:  # this file cannot take such shapes: the next, narrower ones
            continue
    return fixed[0] or 1, fixed[1] or LENGTH_BUCKETS[-1]


def _bind(
    ports: Sequence[Any], names: Sequence[str], *, needed: Sequence[str], known: Sequence[str], path: Path, kind: str
) -> dict[str, int]:
    """Map names to positions: by the file's own names where it has known ones, else by position.

    An output's own names are those of its tensor and, for files of before 2022, of the layer that it comes from.
    """
    layers = [[port.node, *(value.get_node() for value in port.node.input_values())] for port in ports]
    own = [{*port.names, *(node.friendly_name for node in nodes)} for port, nodes in zip(ports, layers, strict=True)]
    by_name = {name: at for at, found in enumerate(own) for name in known if name in found}
    if by_name.keys() >= set(needed) and (kind == "outputs" or len(by_name) == len(ports)):
        return by_name
    if by_name or len(ports) != len(names):
        raise ModelError(
            f"{path} has the {kind} {[sorted(found) for found in own]} where the list of models says {list(names)}; "
            "correct the entry or restore the file"
        )
    return {name: at for at, name in enumerate(names)}
