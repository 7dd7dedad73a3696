"""The published systems, each as a network of its exact architecture in the form of its own files.

`SYSTEMS` is the table; `write` makes the files of one of them. What is not published was worked out from the sizes of
the published files: the small reader has embeddings of width 1024 before and behind its 8 layers of 512 (58.05 M
weights, the file has 58.07 M), the small encoder a linear layer 512 -> 1024 behind them (0.52 MB, by which its int8
file is larger than that of the int8 reader).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from architectures import Architecture, Weights
from architectures import weights as draw_weights
from hugging_face_files import write_hugging_face_folder
from pairs import pairs
from quantisation import Ranges, compress, ranges
from zoo_files import INPUTS, ZooForm, write_zoo_file

from odqa.models import registry
from odqa.models.registry import BUNDLED, ModelFile, ModelSpec
from odqa.models.runtime import Tokenizer

CALIBRATION_ROWS = 3  # pairs whose activations set the ranges of an int8 network
VECTOR_WIDTH = 1024
SPAN = ("output_s", "output_e")
UNCASED = 30_522  # pieces of the vocabularies
CASED = 28_996


def _pruned(removed: Sequence[int], heads: int, seed: int) -> Mapping[int, tuple[int, ...]]:
    rng = np.random.default_rng(seed)
    return {layer: tuple(sorted(rng.permutation(heads)[:n].tolist())) for layer, n in enumerate(removed)}


_SMALL = Architecture(layers=8, hidden=512, intermediate=2048, vocabulary=UNCASED)
_LARGE = Architecture(layers=24, hidden=1024, intermediate=4096, vocabulary=UNCASED)
# 80 of 144 heads are gone; with these feed-forward blocks 31.7 % of the linear weights are left.
_SPARSE = Architecture(
    layers=12,
    hidden=768,
    intermediate=3072,
    vocabulary=UNCASED,
    pruned_heads=_pruned([8, 9, 6, 7, 5, 6, 4, 7, 6, 8, 7, 7], 12, 4),
    density=0.25325,
)


@dataclass(frozen=True)
class System:
    """A system: its name in the registry, its architecture, and how its files are written.

    `number` is its place in the table of systems, with a letter for further models of the zoo. `shape` is the static
    shape of zoo files, None for Hugging Face folders. `rigid` files cannot be given another shape.
    """

    number: str
    name: str
    architecture: Architecture
    shape: tuple[int, int] | None = None
    inputs: tuple[str, ...] = INPUTS[:3]
    names: Literal["tensors", "layers", "numbers", "none"] = "tensors"
    half: bool = False
    int8: bool = False
    rigid: bool = False
    lower_case: bool = True

    @property
    def encodes(self) -> bool:
        """Whether it is an encoder."""
        return self.architecture.vector_width > 0

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return ("embedding",) if self.encodes else SPAN

    @property
    def tolerance(self) -> float:
        """What float numbers may cost; of int8 see `agreement`."""
        return 2e-2 if self.half else 1e-3


SYSTEMS = (
    System(
        "1",
        "bert-small-uncased-whole-word-masking-squad-emb-int8-0001",
        replace(_SMALL, vector_width=VECTOR_WIDTH, seed=1),
        shape=(1, 32),
        inputs=INPUTS,
        half=True,
        int8=True,
    ),
    System(
        "2",
        "bert-small-uncased-whole-word-masking-squad-0001",
        replace(_SMALL, embedding_width=1024, seed=2),
        shape=(1, 384),
        half=True,
    ),
    System(
        "2a",
        "bert-small-uncased-whole-word-masking-squad-int8-0002",
        replace(_SMALL, seed=3),
        shape=(1, 384),
        inputs=INPUTS,
        half=True,
        int8=True,
    ),
    System(
        "3",
        "bert-large-uncased-whole-word-masking-squad-0001",
        replace(_LARGE, seed=4),
        shape=(1, 384),
        names="numbers",
    ),
    System("4", "bert-base-uncased-squad1.1-block-sparse-0.32-v1", replace(_SPARSE, seed=5)),
    System(
        "5",
        "bert-large-cased-whole-word-masking-finetuned-squad",
        replace(_LARGE, vocabulary=CASED, seed=6),
        lower_case=False,
    ),
)


def small(system: System) -> System:
    """Return the stand-in of a system: two narrow layers, and everything else as it is."""
    a = system.architecture
    narrow = replace(
        a,
        layers=2,
        hidden=64,
        intermediate=256,
        head_width=16,
        embedding_width=96 if a.embedding_width else 0,
        pruned_heads={0: (1,), 1: (0, 2, 3)} if a.pruned_heads else {},
    )
    return replace(system, architecture=narrow)


@dataclass(frozen=True)
class Made:
    """A system whose files are written: `folder` holds them, `weights` are what they stand for.

    `ranges` are those of fake quantisation, empty where nothing is quantised.
    """

    system: System
    folder: Path
    weights: Weights
    ranges: Ranges


def write(system: System, parent: Path) -> Made:
    """Write a system's files into the folder of its name in `parent`, which must not be there."""
    folder = parent / system.name
    vocabulary = uncased_vocabulary() if system.lower_case else cased_vocabulary(system.architecture.vocabulary)
    drawn = draw_weights(system.architecture)
    if system.shape is None:
        write_hugging_face_folder(
            folder, system.architecture, drawn, vocabulary=vocabulary, lower_case=system.lower_case
        )
        return Made(system, folder, drawn, {})
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    form = ZooForm(
        system.shape,
        system.inputs,
        system.outputs,
        names=system.names,
        holds="shape" if system.rigid else "nothing",
        half=system.half,
    )
    if system.int8:
        numbers, drawn = compress(drawn)
        tokenizer = Tokenizer(folder / "vocab.txt", lower_case=system.lower_case)
        rows = [tokenizer.encode(pair.passage).ids[:382] for pair in pairs()[:CALIBRATION_ROWS]]
        form = replace(form, numbers=numbers, ranges=ranges(system.architecture, drawn, rows))
    write_zoo_file(folder / f"{system.name}.xml", system.architecture, drawn, form)
    return Made(system, folder, drawn, form.ranges)


def described(made: Made) -> ModelSpec:
    """Return the registry's own entry with the sizes and checksums of the files that were written."""
    spec = registry.find(made.system.name)
    files = []
    for file in spec.files:
        path = made.folder / file.name
        files.append(ModelFile(file.name, file.role, file.url, path.stat().st_size, registry.file_checksum(path)))
    return replace(spec, files=tuple(files))


def write_registry(path: Path, specs: Sequence[ModelSpec]) -> None:
    """Write a list of models that has these entries in place of those of the same names."""
    by_name = {spec.name: spec for spec in specs}
    entries = [registry.entry_of(by_name.get(spec.name, spec)) for spec in registry.published()]
    path.write_text(json.dumps(entries), encoding="utf-8")


def uncased_vocabulary() -> list[str]:
    """Return the pieces of the vocabulary that all uncased systems have."""
    return (BUNDLED / "vocab.txt").read_text(encoding="utf-8").splitlines()


def cased_vocabulary(size: int) -> list[str]:
    """Return a cased vocabulary: the uncased pieces, and behind each one the same with a capital."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    found = dict.fromkeys(special)
    for piece in uncased_vocabulary():
        if piece.startswith("["):
            continue
        start = "##" if piece.startswith("##") else ""
        word = piece.removeprefix("##")
        found[piece] = None
        found[start + word[:1].upper() + word[1:]] = None
    return list(found)[:size]
