"""Write the files of PyTorch that the tests read (files/*.bin); needs PyTorch, which the tests themselves do not.

python tests/models/huggingface/make_files.py
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch

FILES = Path(__file__).parent / "files"


class Runs:
    """Runs a command when it is unpickled by something that does so."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch was-run",)


def main() -> None:
    """Write all files."""
    FILES.mkdir(exist_ok=True)
    table = torch.arange(12, dtype=torch.float32).reshape(3, 4) / 8
    halves = [table.half(), table.bfloat16(), table.double()]
    state = OrderedDict(
        whole=table,
        turned=table.t(),
        part=table[1:, 1:3],
        same=table,
        half=halves[0],
        bfloat16=halves[1],
        double=halves[2],
        whole_numbers=torch.arange(5),
        scalar=torch.tensor(2.5),
        empty=torch.zeros(0, 4),
        parameter=torch.nn.Parameter(table + 1),
    )
    torch.save(state, FILES / "tensors.bin")
    torch.save(state, FILES / "tensors-before-1.6.bin", _use_new_zipfile_serialization=False)
    torch.save(torch.nn.Linear(2, 3).state_dict(), FILES / "module.bin")
    torch.save(state | {"more": Runs()}, FILES / "runs-a-command.bin")
    torch.save(torch.nn.Linear(2, 3), FILES / "whole-module.bin")


if __name__ == "__main__":
    main()
