"""Int8 by NNCF's post-training quantisation, in a process of its own.

NNCF writes to stdout, sets up logging, imports PyTorch if it is there, and reports its use over the network unless it
is told that it runs in a test system: none of that may happen in the process of a user of the library.

    python -m odqa.models.huggingface.quantize NETWORK.xml ROWS.npz QUANTISED.xml
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from odqa.errors import ModelError
from odqa.models.huggingface.weights import IMPORT_EXTRA

Feed = Mapping[str, NDArray[Any]]  # one input of the network: name -> int32 [1, tokens]


def need_nncf() -> None:
    """Refuse to begin without NNCF.

    Raises:
        ModelError: it is not installed.
    """
    if importlib.util.find_spec("nncf") is None:
        raise ModelError(f"int8 needs the package nncf: {IMPORT_EXTRA}; or import the model as fp16")


def quantize(network: Path, feeds: Sequence[Feed], quantized: Path) -> None:
    """Quantise a network in IR form; `feeds` are the inputs that ranges are measured on. Takes minutes for BERT-base.

    Raises:
        ModelError: NNCF fails; the message has its last line.
    """
    rows = quantized.with_name("rows.npz")
    arrays: dict[str, Any] = {f"{i}.{name}": array for i, feed in enumerate(feeds) for name, array in feed.items()}
    np.savez(rows, **arrays)
    # The child finds odqa where this file lies, and nothing in the folder that the user happens to be in (-P).
    found = os.pathsep.join(filter(None, (str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", ""))))
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", __name__, str(network), str(rows), str(quantized)],
            env={**os.environ, "NNCF_CI": "1", "PYTHONPATH": found},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    finally:
        rows.unlink()
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise ModelError(f"NNCF cannot quantise this network: {said[:300]}; import it as fp16")


def _read_feeds(path: Path) -> list[dict[str, NDArray[Any]]]:
    feeds: dict[int, dict[str, NDArray[Any]]] = {}
    with np.load(path) as arrays:
        for key in arrays:
            number, _, name = key.partition(".")
            feeds.setdefault(int(number), {})[name] = arrays[key]
    return [feeds[number] for number in sorted(feeds)]


def main(network: str, rows: str, quantized: str) -> None:
    """Quantise in this process, with the settings that the bundled models were made with."""
    import openvino

    nncf = importlib.import_module("nncf")
    feeds = _read_feeds(Path(rows))
    found = nncf.quantize(
        openvino.Core().read_model(network),
        nncf.Dataset(feeds),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(feeds),
        fast_bias_correction=True,
    )
    openvino.save_model(found, quantized, compress_to_fp16=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
