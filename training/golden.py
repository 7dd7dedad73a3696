"""Write what the PyTorch networks in float32 say of a few texts, as golden values for tests/golden/.

The tests hold the bundled int8 networks, run by odqa, against them: another implementation of the same weights.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

import loop
from network import EncoderNetwork, ReaderNetwork

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
PAIRS = [
    ("Who keeps the lamp?", "The lamp is kept by two keepers, Mara Venn and her brother, who climb the tower at dusk."),
    (
        "When was the bridge opened?",
        "Work began in 1871. The bridge was opened on 4 May 1874 by the mayor of the town.",
    ),
    ("How long is the path?", "The coast path runs for 87 miles, from the ferry quay to the northern lighthouse."),
    ("What does the brewery make?", "Since its return the brewery makes a dark ale and, in summer, a wheat beer."),
    ("Where do the terns nest?", "Arctic terns nest on the shingle banks south of the marsh between May and July."),
    ("Why was the school closed?", "The school was closed in 1953 because the sea had broken through the dyke."),
]


def main() -> None:
    """Write the golden values of one network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["encoder", "reader"])
    parser.add_argument("--run", type=Path, required=True, help="folder of the training run")
    options = parser.parse_args()
    tokenizer = loop.plain_tokenizer()
    network = (EncoderNetwork if options.kind == "encoder" else ReaderNetwork)().eval()
    network.load_state_dict(torch.load(options.run / f"{options.kind}.pt", weights_only=True))
    rows = []
    with torch.no_grad():
        for question, passage in PAIRS:
            asked, text = tokenizer.encode(question).ids, tokenizer.encode(passage)
            if options.kind == "encoder":
                vectors = []
                for ids in (asked, text.ids):
                    row = torch.tensor([[loop.CLS, *ids, loop.SEP]])
                    positions = torch.arange(row.shape[1])[None]
                    vector = network(row, torch.ones_like(row), torch.zeros_like(row), positions)[0]
                    vectors.append([round(v, 4) for v in vector.tolist()])
                rows.append({"question": question, "passage": passage, "vectors": vectors})
                continue
            head = [loop.CLS, *asked, loop.SEP]
            row = torch.tensor([[*head, *text.ids, loop.SEP]])
            kinds = torch.tensor([[0] * len(head) + [1] * (len(text.ids) + 1)])
            start, end = (logits[0] for logits in network(row, torch.ones_like(row), kinds))
            first, last = len(head), len(head) + len(text.ids)
            best = max(
                (float(start[i] + end[j] - start[0] - end[0]), i - first, j - first)
                for i in range(first, last)
                for j in range(i, min(i + 30, last))
            )
            span = [text.offsets[best[1]][0], text.offsets[best[2]][1]]
            rows.append({"question": question, "passage": passage, "span": span, "score": round(best[0], 3)})
    GOLDEN.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(row) for row in rows)
    (GOLDEN / f"{options.kind}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
