"""Questions and passages -> vectors, by a model of the registry."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from odqa import settings
from odqa.errors import ModelError
from odqa.models.opening import open_model
from odqa.models.registry import ENCODE, ModelSpec, find, need_task
from odqa.models.runtime import Row, Tokenizer
from odqa.protocols import EncoderIdentity, TokenIds, Vectors


class DenseEncoder:
    """An encoder of the registry; keeps `odqa.protocols.Encoder`. Threads may share one.

    Rows are `[CLS] text [SEP]` with token types 0 (1 for a question without its lexical half). The vectors are the
    network's own output, to be compared by L2 distance. A text's vector depends on nothing but the text (and its
    title): not on its neighbours in a call, beyond rounding in the last digits.
    """

    def __init__(self, spec: ModelSpec, *, environment: Mapping[str, str] = os.environ) -> None:
        """Verify and load the model.

        Raises:
            ModelError: the model is not an encoder, or cannot be loaded.
            DamagedModelError: a file is missing or is not the one that the registry names.
        """
        need_task(spec, ENCODE)
        self._spec = spec
        self._tokenizer, self._network = open_model(spec, environment=environment)

    @property
    def identity(self) -> EncoderIdentity:
        """Name, revision, checksum over the checksums of the model's files, and width of the vectors."""
        return EncoderIdentity(self._spec.name, self._spec.revision, self._spec.checksum, self._spec.width)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer whose word pieces the lengths of passages are counted in."""
        return self._tokenizer

    def encode_questions(self, questions: Sequence[str], *, lexical: bool = True) -> Vectors:
        """Questions, cut to the model's question length -> float32 [len(questions), width]; none gives [0, width].

        Without `lexical` the lexical half is left out, if the model's vectors have one.

        Raises:
            ValueError: a question holds half of a surrogate pair.
        """
        encodings = self._tokenizer.encode_batch(questions)
        return self._vectors(
            [encoding.ids for encoding in encodings],
            tokens=self._spec.question_tokens,
            lexical=lexical or not self._spec.lexical_half,
        )

    def encode_passages(
        self, passages: Sequence[str], *, titles: Sequence[str], ids: Sequence[TokenIds] | None = None
    ) -> Vectors:
        """Passages behind the titles of their documents -> float32 [len(passages), width]; none gives [0, width].

        A title ("" for none) is cut to `settings.TITLE_TOKENS` word pieces, and title and passage together to the
        model's passage length. `ids` are the passages' word pieces, if they are known; None makes them.

        Raises:
            ValueError: there are not as many titles or ids as passages, or a text holds half of a surrogate pair.
        """
        if len(passages) != len(titles):
            raise ValueError(f'need one title (or "") for each passage: {len(titles)} titles, {len(passages)} passages')
        if ids is not None and len(ids) != len(passages):
            raise ValueError(f"need the ids of every passage, or of none: {len(ids)} for {len(passages)} passages")
        distinct = list(dict.fromkeys(titles))  # the passages of a document share its title
        title_ids = {
            title: encoding.ids[: settings.TITLE_TOKENS]
            for title, encoding in zip(distinct, self._tokenizer.encode_batch(distinct), strict=True)
        }
        if ids is None:
            known = [encoding.ids for encoding in self._tokenizer.encode_batch(passages)]
        else:
            known = [of_passage.tolist() for of_passage in ids]
        pieces = [title_ids[title] + of_passage for title, of_passage in zip(titles, known, strict=True)]
        return self._vectors(pieces, tokens=self._spec.passage_tokens)

    def _vectors(self, pieces: Sequence[list[int]], *, tokens: int, lexical: bool = True) -> Vectors:
        if not pieces:
            return np.zeros((0, self._spec.width), np.float32)
        cls_id, sep_id = self._tokenizer.cls_id, self._tokenizer.sep_id
        rows = [[cls_id, *ids[: tokens - 2], sep_id] for ids in pieces]
        vectors = self._network.vectors([Row(row, () if lexical else [1] * len(row)) for row in rows])
        if vectors.shape != (len(pieces), self._spec.width):
            raise ModelError(
                f"model {self._spec.name} gave vectors of shape {vectors.shape[1:]} instead of ({self._spec.width},); "
                "correct its entry in the list of models"
            )
        return vectors


def load_encoder(name: str, *, environment: Mapping[str, str] = os.environ) -> DenseEncoder:
    """Load an encoder by its name in the registry.

    Raises:
        UnknownModelError: the registry has no such model.
        ModelError: it is not an encoder, or cannot be loaded; nothing is ever downloaded here.
    """
    return DenseEncoder(find(name, task=ENCODE, environment=environment), environment=environment)
