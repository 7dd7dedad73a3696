"""PyTorch weights -> int8 OpenVINO IR in src/odqa/models/bundled/, with size and checksum in the registry.

Post-training quantisation by NNCF, and of what it leaves of the attention by `attention.py`, calibrated on the real
mix: questions and passages for the encoder, question + passage windows for the reader. The fp32 IR is kept beside the
run, to measure what int8 costs. With `--bundled` a network that was exported before there was `attention.py` gets that.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import tempfile
from pathlib import Path

import nncf
import numpy as np
import openvino as ov
import torch
from openvino import opset13

import data
import lexical
import loop
from attention import integer_attention
from from_ir import value_of
from network import EncoderNetwork, ReaderNetwork, base_folder

MODELS = Path(__file__).parents[1] / "src" / "odqa" / "models"
NAMES = {"encoder": "odqa-encoder-small-int8", "reader": "odqa-reader-small-int8"}
INPUTS = {
    "encoder": ["input_ids", "attention_mask", "token_type_ids", "position_ids"],
    "reader": ["input_ids", "attention_mask", "token_type_ids"],
}
OUTPUTS = {"encoder": ["embedding"], "reader": ["output_s", "output_e"]}


def to_openvino(network: torch.nn.Module, kind: str) -> ov.Model:
    """Convert with dynamic batch and length, int32 inputs, and the zoo's names."""
    network.eval()
    network.bert.set_attn_implementation("eager")
    ids = torch.ones((2, 16), dtype=torch.int32)
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    example = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    if kind == "encoder":
        example["position_ids"] = torch.arange(16, dtype=torch.int32).expand(2, 16).contiguous()
    model = ov.convert_model(
        network, example_input=example, input=[(name, [-1, -1], ov.Type.i32) for name in INPUTS[kind]]
    )
    for port, name in zip(model.inputs, INPUTS[kind], strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
    for port, name in zip(model.outputs, OUTPUTS[kind], strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
    model.validate_nodes_and_infer_types()
    return model


def narrow_mask(model: ov.Model) -> None:
    """Let every attention read the mask as [batch, 1, 1, length], not spread to [batch, 1, length, length].

    Same numbers to the bit: what is added to the masked scores, -10,000, leaves nothing of them in a softmax. It saves
    up to a twentieth of the time.
    """
    mask = next(port for port in model.inputs if "attention_mask" in port.names)
    hidden = opset13.subtract(opset13.convert(mask, "f32"), np.float32(1))
    added = opset13.unsqueeze(opset13.multiply(hidden, np.float32(10_000)), np.array([1, 2], np.int64))
    for operation in model.get_ordered_ops():
        if operation.get_type_name() == "ScaledDotProductAttention":
            operation.input(3).replace_source_output(added.output(0))
    model.validate_nodes_and_infer_types()


def dense_head(model: ov.Model) -> np.ndarray:
    """Return the weights of the dense head as the network has them, float32 [1024, 384]."""
    product = next(op for op in model.get_ops() if op.get_friendly_name() == "__module.head/aten::linear/MatMul")
    return value_of(ov.Core(), product.input_value(1))


def calibration_rows(corpus: data.Corpus, kind: str, *, count: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Make `count` unpadded batches of one from training text."""
    tokenizer = loop.plain_tokenizer()
    rng = random.Random(seed)
    rows = []
    for number, question in enumerate(rng.sample(corpus.questions, count)):
        asked = tokenizer.encode(question.text).ids
        text = tokenizer.encode(corpus.paragraphs[question.paragraph]).ids
        if kind == "reader":
            row = [loop.CLS, *asked[:64], loop.SEP]
            kinds = [0] * len(row)
            text = text[: 383 - len(row)]
            row, kinds = [*row, *text, loop.SEP], kinds + [1] * (len(text) + 1)
        else:
            body = asked[:30] if number % 3 == 0 else text[:382]
            row = [loop.CLS, *body, loop.SEP]
            kinds = [0] * len(row)
        example = {
            "input_ids": np.array([row], dtype=np.int32),
            "attention_mask": np.ones((1, len(row)), dtype=np.int32),
            "token_type_ids": np.array([kinds], dtype=np.int32),
        }
        if kind == "encoder":
            example["position_ids"] = np.arange(len(row), dtype=np.int32)[None]
        rows.append(example)
    return rows


def write_registry(kind: str) -> None:
    """Put the sizes and checksums of the files into registry.json; other files are a new revision."""
    path = MODELS / "registry.json"
    entries = json.loads(path.read_text(encoding="utf-8"))
    entry = next(e for e in entries if e["name"] == NAMES[kind])
    before = [file["checksum"] for file in entry["files"]]
    for file in entry["files"]:
        content = (MODELS / "bundled" / file["name"]).read_bytes()
        file["size"], file["checksum"] = len(content), "sha256:" + hashlib.sha256(content).hexdigest()
    if [file["checksum"] for file in entry["files"]] != before:
        entry["revision"] = str(int(entry["revision"]) + 1)
    path.write_text(json.dumps(entries, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def network_of(options: argparse.Namespace) -> torch.nn.Module:
    """Return the network of a training run with its weights."""
    network = EncoderNetwork() if options.kind == "encoder" else ReaderNetwork()
    if options.checkpoint:
        weights = torch.load(options.run / "checkpoint.pt", weights_only=True)["model"]
    else:
        weights = torch.load(options.run / f"{options.kind}.pt", weights_only=True)
    network.load_state_dict(weights)
    return network


def quantised(model: ov.Model, rows: list[dict[str, np.ndarray]]) -> ov.Model:
    """Quantise a network as NNCF does, calibrated on all rows."""
    made = nncf.quantize(
        model,
        nncf.Dataset(rows),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(rows),
        fast_bias_correction=True,
    )
    narrow_mask(made)
    return made


def save(model: ov.Model, path: Path) -> None:
    """Write a network beside the file that it may have been read from, and put it in that one's place."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        ov.save_model(model, Path(folder) / path.name, compress_to_fp16=False)
        for suffix in (".bin", ".xml"):
            (Path(folder) / path.name).with_suffix(suffix).replace(path.with_suffix(suffix))


def main() -> None:
    """Run the export from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=sorted(NAMES))
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, help="folder of the training run")
    source.add_argument(
        "--bundled", action="store_true", help="export nothing: give the bundled network integer attention"
    )
    parser.add_argument("--squad", type=Path, required=True, help="SQuAD v1.1 train file, for calibration text")
    parser.add_argument("--checkpoint", action="store_true", help="take the newest checkpoint of an unfinished run")
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--limit-articles", type=int, help="take calibration text from the first articles only")
    parser.add_argument("--seed", type=int, default=17)
    options = parser.parse_args()

    corpus = data.load_squad(options.squad, held_out=False, limit_articles=options.limit_articles)
    rows = calibration_rows(corpus, options.kind, count=options.samples, seed=options.seed)
    bundled = MODELS / "bundled"
    bundled.mkdir(exist_ok=True)
    target = bundled / f"{options.kind}.xml"
    if options.bundled:
        quantized = ov.Core().read_model(target)
    else:
        model = to_openvino(network_of(options), options.kind)
        quantized = quantised(model, rows)
        if options.kind == "encoder":
            pieces = lexical.piece_weights(corpus.paragraphs, loop.plain_tokenizer())
            for one in (model, quantized):
                lexical.add_lexical_half(one, pieces, dense_head(one))
        ov.save_model(model, options.run / f"{options.kind}-fp32.xml", compress_to_fp16=False)
        shutil.copyfile(base_folder() / "vocab.txt", bundled / "vocab.txt")
    # The reader's rows mostly run alone, the encoder's in batches.
    integer_attention(quantized, rows, round_first=options.kind == "reader")
    save(quantized, target)
    write_registry(options.kind)
    for file in sorted(bundled.glob(f"{options.kind}.*")):
        print(file.name, file.stat().st_size)


if __name__ == "__main__":
    main()
