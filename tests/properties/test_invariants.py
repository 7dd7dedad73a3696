"""What holds for every document and every question, through the real ingest, chunker, store and pipeline."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

from fake_models import fake_models
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from odqa import pipeline
from odqa.ingest.chunker import PassageChunker
from odqa.protocols import TextTokenizer
from odqa.types import Answer, Document, Passage

# Small passages, so that short texts are cut into many.
MAX_TOKENS, TITLE_TOKENS = 24, 6

WORDS = st.sampled_from("the whale sings Ada engine 1843 naïve e\u0301te\u0301 中文 🙂 İstanbul ﬁn [SEP] & <b>".split())
ENDS = st.sampled_from([" ", " ", " ", ". ", "! ", "\n", "\n\n", "\r\n", "\u2028", "\u3000", ", ", "\t", "\x0c", "#"])
PROSE = st.lists(st.tuples(WORDS, ENDS), min_size=1, max_size=90).map(lambda parts: "".join(w + e for w, e in parts))
ANYTHING = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=120)
HEADED = st.lists(
    st.tuples(PROSE, st.sampled_from(["\n# One\n\n", "\n## Two\n\n", "\n\n"])), min_size=1, max_size=4
).map(lambda parts: "".join(text + heading for text, heading in parts))
CORPORA = st.lists(
    st.tuples(st.sampled_from([".txt", ".md", ".html", ".jsonl"]), st.one_of(PROSE, HEADED, ANYTHING)),
    min_size=1,
    max_size=4,
)
RUNS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def small_chunker(tokenizer: TextTokenizer) -> PassageChunker:
    return PassageChunker(tokenizer, max_tokens=MAX_TOKENS, title_tokens=TITLE_TOKENS)


def write(folder: Path, corpus: Sequence[tuple[str, str]]) -> Path:
    for number, (suffix, text) in enumerate(corpus):
        shown = text
        if suffix == ".jsonl":
            shown = json.dumps({"text": text, "title": text[:20]}) + "\n" + json.dumps({"text": "Ada. " + text})
        elif suffix == ".html":
            body = f"<h1>H</h1><p>{text}</p><table><tr><td>{text}</td></tr></table>"
            shown = f"<html><head><title>T</title></head><body>{body}</body></html>"
        (folder / f"{number}{suffix}").write_text(shown, encoding="utf-8", newline="")
    return folder


def check_passage(passage: Passage, document: Document) -> None:
    assert passage.span.of(document.text) == passage.text
    assert passage.text.strip() == passage.text != ""
    assert (passage.doc_id, passage.title, passage.source) == (document.doc_id, document.title, document.source)
    assert passage.sections == tuple(s for s in document.sections if s.span.overlaps(passage.span))


def check_answer(answer: Answer, documents: dict[str, Document]) -> None:
    assert answer.text
    assert answer.span.of(documents[answer.passage.doc_id].text) == answer.text
    assert 0.0 <= answer.probability <= 1.0
    best = answer.places[0]
    assert (best.passage, best.span) == (answer.passage, answer.span)
    for place in answer.places:
        assert place.passage.span.start <= place.span.start < place.span.end <= place.passage.span.end
        assert place.span.of(documents[place.passage.doc_id].text)


@RUNS
@given(CORPORA)
def test_passages_and_answers_are_cut_out_of_their_documents(corpus: list[tuple[str, str]]) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        fake_models(),
        patch("odqa.ingest.chunker.PassageChunker", small_chunker),
    ):
        docs = Path(folder, "docs")
        docs.mkdir()
        with pipeline.open(Path(folder, "index"), create=True) as qa:
            report = qa.index([write(docs, corpus)])
            assert sorted(report.added) == qa.doc_ids()
            documents = {doc_id: qa.document(doc_id) for doc_id in qa.doc_ids()}
            if not any(documents.values()):
                assert report.skipped  # nothing but blanks
                return
            asked = "Which whale sings of Ada and the engine?"
            passages = [one.passage for one in qa.search(asked, mode="dense", top_k=10_000)]
            result = qa.query(asked, top_k=7, n_best=9)
        assert len(passages) == report.passages
        for doc_id, document in documents.items():
            assert document is not None
            own = [passage for passage in passages if passage.doc_id == doc_id]
            covered: set[int] = set()
            for passage in own:
                check_passage(passage, document)
                covered.update(range(passage.span.start, passage.span.end))
            assert [i for i, char in enumerate(document.text) if i not in covered and not char.isspace()] == []
        for answer in result.answers:
            check_answer(answer, {doc_id: document for doc_id, document in documents.items() if document})
        for found in result.passages:
            assert found.passage in passages
