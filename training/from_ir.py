"""Weights of a bundled int8 network back as a float32 state dict, so that training can go on from what is shipped.

Int8 weights with one scale a row lose little; the first steps of training make it up. NNCF's smoothing (a factor on the
activations, its inverse in the weights) is undone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import torch
from torch import Tensor, nn

BUNDLED = Path(__file__).parents[1] / "src" / "odqa" / "models" / "bundled"
SMOOTHING = "nncf_smooth_quant"


def value_of(core: ov.Core, output: ov.Output) -> np.ndarray:
    """Evaluate a part of the graph that depends on constants alone."""
    return next(iter(core.compile_model(ov.Model([output], []), "CPU")([]).values())).astype(np.float32)


def smoothing_of(core: ov.Core, output: ov.Output) -> np.ndarray | float:
    """Return the factor that the activations of a matrix product are multiplied with, 1.0 if there is none.

    That of a context may stand before its product: with the values, which are the second factor (`attention.py`).
    """
    node = output.get_node()
    while (kind := node.get_type_name()) in ("FakeQuantize", "Multiply", "Reshape", "Transpose", "MatMul"):
        if node.get_friendly_name().endswith(SMOOTHING):
            return value_of(core, node.input_value(1)).reshape(1, -1)
        if kind == "Multiply":
            return 1.0
        node = node.input_value(1 if kind == "MatMul" else 0).get_node()
    return 1.0


def state_of(path: Path, network: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of `network` (its names and shapes) with the weights of the IR at `path`.

    Raises:
        ValueError: a weight of the network has no counterpart in the file, or another shape.
    """
    core = ov.Core()
    ops = {op.get_friendly_name(): op for op in core.read_model(path).get_ops()}
    state: dict[str, Tensor] = {}
    for name, weight in network.state_dict().items():
        module, _, kind = name.rpartition(".")
        if (op := ops.get(f"__module.{module}/aten::linear/MatMul")) is not None:
            added = ops.get(f"__module.{module}/aten::linear/Add")
            value = (
                value_of(core, op.input_value(1)) * smoothing_of(core, op.input_value(0))
                if kind == "weight"
                else value_of(core, added.input_value(1 if added.input_value(0).get_node() == op else 0)).reshape(-1)
            )
        elif (op := ops.get(f"__module.{module}/aten::embedding/Gather")) is not None:
            value = value_of(core, op.input_value(0))
        elif kind == "weight" and (op := ops.get(f"__module.{module}/aten::layer_norm/Multiply_1")) is None:
            op = ops.get(f"__module.{module}/aten::layer_norm/Multiply")
            value = value_of(core, op.input_value(1)).reshape(-1)
        else:
            end = "Multiply_1" if kind == "weight" else "Add"
            value = value_of(core, ops[f"__module.{module}/aten::layer_norm/{end}"].input_value(1)).reshape(-1)
        if value.shape != tuple(weight.shape):
            raise ValueError(f"{path}: {name} is {value.shape}, not {tuple(weight.shape)}")
        state[name] = torch.from_numpy(value.copy())
    return state
