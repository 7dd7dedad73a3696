"""Int8 embedding tables that stay int8: rows are looked up first and scaled then.

Files say it the other way round: the whole table is brought to float32, and then rows are looked up. OpenVINO computes
all that does not depend on the input when it compiles, so it would keep the float32 table: four times the memory, and
four times as much to read when a compiled network is taken from the cache. The numbers are the same to the bit.
(OpenVINO 2026.4 even crashes at a table that is scaled by column; looked up first, it is none to it.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino

_SCALING = ("Multiply", "Subtract")


def keep_embeddings_small(model: openvino.Model) -> int:
    """Change a model in place so that its int8 embedding tables stay int8; return how many tables that was."""
    lookups = [op for op in model.get_ops() if op.get_type_name() == "Gather"]
    return sum(_scaled_after(lookup) for lookup in lookups)


def _scaled_after(lookup: openvino.Node) -> bool:
    """Look up the rows of one table before they are scaled, if the table is of a form that is known."""
    from openvino import opset15 as ops

    scaling, node = [], lookup.input_value(0).get_node()
    while node.get_type_name() in _SCALING:
        scaling.append(node)
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Convert" or not _is_table(table := node.input_value(0)):
        return False
    axis = lookup.input_value(2).get_node()
    if axis.get_type_name() != "Constant" or axis.get_vector()[0] != 0 or not all(map(_is_constant, scaling)):
        return False
    ids = lookup.input_value(1)
    found = ops.convert(ops.gather(table, ids, axis), node.get_output_element_type(0).to_string())
    for one in reversed(scaling):
        factor = one.input_value(1)
        # One of 2 dimensions may differ from row to row; else its one row, or number, is that of all rows.
        by_row = len(factor.get_shape()) == 2 and factor.get_shape()[0] > 1
        own = ops.gather(factor, ids, axis) if by_row else factor
        found = ops.multiply(found, own) if one.get_type_name() == "Multiply" else ops.subtract(found, own)
    found.set_friendly_name(lookup.get_friendly_name())
    for reader in lookup.output(0).get_target_inputs():
        reader.replace_source_output(found.output(0))
    return True


def _is_table(value: openvino.Output) -> bool:
    import openvino

    constant = value.get_node().get_type_name() == "Constant"
    return constant and value.get_element_type() in (openvino.Type.i8, openvino.Type.u8) and len(value.get_shape()) == 2


def _is_constant(scaling: openvino.Node) -> bool:
    return bool(scaling.input_value(1).get_node().get_type_name() == "Constant")
