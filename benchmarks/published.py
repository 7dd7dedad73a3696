"""Networks of the published small pair's shape: 8 layers of 512, int8, an encoder with 1024-D output and a reader.

The files themselves cannot be had everywhere. These have the same architecture, inputs, static shapes and int8
products, with weights drawn by chance, which do not change the speed; they are those that the tests check against
PyTorch. The published reader of that size exists as int8 and as float: the int8 one is taken, the faster.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "models" / "systems"))

from published_systems import SYSTEMS, small, write

from common import kept, say

_NUMBERS = {"encoder": "1", "reader": "2a"}


def published_network(kind: str, work: Path, *, quick: bool) -> Path:
    """Return the .xml of the stand-in "encoder" or "reader", made if it is not there; narrow ones if `quick`."""
    system = next(one for one in SYSTEMS if one.number == _NUMBERS[kind])
    chosen = small(system) if quick else system

    def make(folder: Path) -> None:
        say(f"writing a network of the shape of {system.name}")
        folder.mkdir()
        write(chosen, folder)

    folder = kept(work / f"published-{kind}{'-narrow' if quick else ''}", make)
    return folder / system.name / f"{system.name}.xml"
