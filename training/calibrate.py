"""Fit what stands between the models and the answer, on the held-out articles of the training file.

`fusion` compares weights of the fusion by recall@5. `look` fits the weights of the second look, and measures those that
were fitted on the other half of the articles. `reader` fits the weights of the final order, which passages are left
unread, and the logistic model of the probability, and writes them into the registry. What was chosen on whole
documents, support and the limits of long passages, stays as it is there. Unanswerable questions are made by asking over
the same index with the passages of the question's own article excluded.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fit_reader import fit_reader
from fit_retrieval import fit_fusion, fit_look
from odqa import settings


def main() -> None:
    """Run a fit from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["fusion", "look", "reader"])
    parser.add_argument("--squad", type=Path, required=True, help="SQuAD v1.1 train file")
    parser.add_argument("--reader", default=settings.DEFAULT_READER)
    parser.add_argument("--count", type=int, default=2500, help="questions of the held-out articles")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--keep-order", action="store_true", help="`reader`: fit the probability alone")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    if options.what == "fusion":
        figures = fit_fusion(options.squad, count=options.count, seed=options.seed)
    elif options.what == "look":
        figures = fit_look(options.squad, count=options.count, seed=options.seed)
    else:
        figures = fit_reader(
            options.squad,
            name=options.reader,
            count=options.count,
            seed=options.seed,
            keep_order=options.keep_order,
        )
    print(json.dumps(figures))
    if options.out is not None:
        options.out.write_text(json.dumps(figures) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
