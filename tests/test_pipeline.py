from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import fake_models
import pytest
from fake_models import doc_ids, frozen_state

from odqa import pipeline, settings
from odqa.errors import (
    IngestError,
    LockedIndexError,
    ModelError,
    NoIndexError,
    UnknownModelError,
)
from odqa.models import registry
from odqa.protocols import SpanCandidate
from odqa.store.filters import AnyOf, Condition
from odqa.store.where import Where
from odqa.types import QueryResult, Span


@pytest.fixture(autouse=True)
def _fake_models(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_models.use_fake_models(monkeypatch)


@pytest.fixture
def index_dir(tmp_path: Path) -> Path:
    return fake_models.write_index(tmp_path)


def without_time(result: QueryResult) -> tuple[object, ...]:
    return result.question, result.answer, result.answers, result.passages


# ---- asking --------------------------------------------------------------------------------------------------------


def test_an_answer_with_its_place(index_dir: Path) -> None:
    with pipeline.open(index_dir) as qa:
        result = qa.query("What is the great whale of Skarn called?")
        assert result.question == "What is the great whale of Skarn called?"
        assert result.answer is not None
        assert result.answer is result.answers[0]
        assert result.answer.text == "Borealis"
        assert result.answer.heading == "Whales"
        assert result.answer.passage.doc_id == "docs/whales.md"
        document = qa.document("docs/whales.md")
        assert document is not None
        assert result.answer.span.of(document.text) == "Borealis"
        assert result.answer.probability > 0.9  # six words shared: sigmoid(6 - 2.5)
        assert 0.0 < result.seconds < 60.0


def test_equal_answers_from_two_documents_are_one(index_dir: Path) -> None:
    with pipeline.open(index_dir) as qa:
        best = qa.query("Which ship was built by whom?").answers[0]
        assert best.text == "Ingrid"
        assert sorted(place.passage.doc_id for place in best.places) == ["docs/ships.jsonl#a", "docs/ships.jsonl#b"]


def test_no_answer_is_none_and_keeps_the_candidates(index_dir: Path) -> None:
    with pipeline.open(index_dir) as qa:
        question = "Who painted the gull?"
        result = qa.query(question)
        assert result.answer is None
        assert result.answers
        assert all(answer.probability < 0.5 for answer in result.answers)
        assert qa.query(question, threshold=0.0).answer == result.answers[0]
        assert qa.query("What is the great whale of Skarn called?", threshold=1.0).answer is None


def test_numbers_of_passages_and_answers(index_dir: Path) -> None:
    with pipeline.open(index_dir) as qa:
        result = qa.query("ship whale gull seal", top_k=2, n_best=1)
        assert (len(result.passages), len(result.answers)) == (2, 1)
        assert len(qa.search("ship whale gull seal", top_k=1000, mode="dense")) == qa.status().passages


def test_as_many_spans_are_read_however_few_answers_are_wanted(
    index_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else merging, support and margins, and with them the probability, would depend on `n_best`."""
    asked: list[int] = []

    class Recording(fake_models.LastWordReader):
        def read(self, question: str, passages: Sequence[str], *, n_best: int) -> list[SpanCandidate]:
            asked.append(n_best)
            return super().read(question, passages, n_best=n_best)

    monkeypatch.setattr("odqa.pipeline.load_reader", lambda _: Recording())
    with pipeline.open(index_dir) as qa:
        few, many = qa.query("Which ship was built by whom?", n_best=1), qa.query("Which ship was built by whom?")
        qa.query("ship", n_best=settings.SPAN_CANDIDATES + 7)
    assert few.answers == many.answers[:1]
    assert asked == [settings.SPAN_CANDIDATES] * 2 + [settings.SPAN_CANDIDATES + 7]


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_many_questions_give_what_each_gives_alone(index_dir: Path, batch: int) -> None:
    questions = ["What does the gull eat?", "ship", "What is the seal called?", "ship", "Who painted the gull?"]
    with pipeline.open(index_dir) as qa:
        alone = [without_time(qa.query(question)) for question in questions]
        assert [without_time(result) for result in qa.query_many(iter(questions), batch=batch)] == alone
        assert [one[3] for one in alone] == qa.search_many(questions)
        assert list(qa.query_many([])) == []
        assert qa.search_many([]) == []


def test_questions_are_taken_batch_by_batch(index_dir: Path) -> None:
    taken: list[int] = []

    def endless() -> object:
        while True:
            taken.append(len(taken))
            yield f"ship {len(taken)}"

    with pipeline.open(index_dir) as qa:
        results = qa.query_many(endless(), batch=3)  # type: ignore[arg-type]
        assert taken == []
        assert next(results).question == "ship 1"
        assert taken == [0, 1, 2]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ((), ["a", "b", "c"]),
        (["year>=1900"], ["b", "c"]),
        (["year>=1900", "year<1950"], ["b"]),
        (["afloat=true"], ["c"]),
        ([Condition("year", "=", 1899)], ["a"]),
        (["doc_id=docs/ships.jsonl#b", Condition("suffix", "=", ".jsonl")], ["b"]),
        (["year>2000"], []),
        ("year<1900 or path^=docs/ and afloat=true", ["a", "c"]),
        ("year in (1899, 1950) and path=ships.jsonl", ["a", "c"]),
        (Condition("year", "<", 1900) | Condition("afloat", "=", True), ["a", "c"]),
        ([AnyOf(())], []),
        (Condition("year", "in", ()), []),
    ],
)
@pytest.mark.parametrize("mode", ["hybrid", "dense", "text"])
def test_where(index_dir: Path, where: Where, expected: list[str], mode: str) -> None:
    with pipeline.open(index_dir) as qa:
        found = doc_ids(qa, "ship", where=where, mode=mode, top_k=20)
        assert sorted(i.rpartition("#")[2] for i in found if "#" in i) == expected
        if where:
            assert all("#" in i for i in found)
        result = qa.query("Who built the ship?", where=where, mode=mode)
        assert [p.passage.doc_id for p in result.passages] == doc_ids(qa, "Who built the ship?", where=where, mode=mode)
        if not expected:
            assert (result.answer, result.answers, result.passages) == (None, (), ())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k is 0"),
        ({"n_best": 0}, "n_best is 0"),
        ({"mode": "psychic"}, "unknown mode 'psychic'"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"where": ["year ~ 3"]}, "year <-- HERE ~ 3"),
        ({"where": "yaer=3"}, "no document of the index has a field 'yaer': did you mean 'year'"),
        ({"where": ["year=1899", "nothing!=3"]}, "no document of the index has a field 'nothing'"),
    ],
)
def test_wrong_arguments(index_dir: Path, options: dict[str, object], message: str) -> None:
    with pipeline.open(index_dir) as qa, pytest.raises(ValueError, match=message):
        qa.query("ship", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("question", ["", " \t", "?!…", "🙂"])
def test_questions_without_words(index_dir: Path, question: str) -> None:
    with pipeline.open(index_dir) as qa:
        for ask in (qa.query, qa.search):
            with pytest.raises(ValueError, match="ask something"):
                ask(question)


def test_arguments_of_query_many_are_checked_at_the_call(index_dir: Path) -> None:
    with pipeline.open(index_dir) as qa:
        for options in ({"batch": 0}, {"n_best": 0}, {"threshold": -0.1}):
            with pytest.raises(ValueError, match=next(iter(options))):
                qa.query_many(["ship"], **options)  # type: ignore[arg-type]


def test_eight_threads_get_what_one_gets(index_dir: Path) -> None:
    questions = [f"{word} {number}" for number in range(10) for word in ("ship", "whale of Skarn", "gull", "seal")]
    with pipeline.open(index_dir) as qa:
        alone = [without_time(qa.query(question)) for question in questions]
    start = threading.Barrier(8)
    with pipeline.open(index_dir) as qa:  # opened anew: the first use of everything happens in threads

        def ask(_: int) -> list[tuple[object, ...]]:
            start.wait(timeout=30)
            return [without_time(qa.query(question)) for question in questions]

        with ThreadPoolExecutor(8) as pool:
            assert all(found == alone for found in pool.map(ask, range(8)))


def test_models_are_loaded_once_and_late(index_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    for name, model in (("encoder", fake_models.BagEncoder()), ("reader", fake_models.LastWordReader())):

        def load(_: str, name: str = name, model: object = model) -> object:
            loaded.append(name)
            return model

        monkeypatch.setattr(f"odqa.pipeline.load_{name}", load)
    with pipeline.open(index_dir) as qa:
        qa.search("ship", mode="text")
        assert loaded == []
        qa.search("ship")
        assert loaded == ["encoder"]
        qa.query("ship")
        qa.query("gull")
        assert loaded == ["encoder", "reader"]


def test_a_reader_warms_up_once_and_no_answer_depends_on_it(index_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warmed: list[threading.Thread] = []
    done = threading.Event()

    class Warming(fake_models.LastWordReader):
        def warm_up(self) -> None:
            warmed.append(threading.current_thread())
            done.set()
            raise RuntimeError("no memory")

    monkeypatch.setattr("odqa.pipeline.load_reader", lambda _: Warming())
    with pipeline.open(index_dir) as qa:
        results = [qa.query("What colour is the ship?") for _ in range(2)]
        assert done.wait(30)
    assert [thread is threading.main_thread() for thread in warmed] == [False]
    assert results[0].answers == results[1].answers != ()


class FirstWordReader(fake_models.LastWordReader):
    """The first word of the sentence instead of the last; the same scores."""

    name = "other-reader"

    def read(self, question: str, passages: Sequence[str], *, n_best: int) -> list[SpanCandidate]:
        found = super().read(question, passages, n_best=n_best)
        return [replace(one, span=self._first(passages[one.passage], one.span)) for one in found]

    def _first(self, passage: str, last: Span) -> Span:
        sentence = max(passage.rfind(sign, 0, last.start) for sign in ".!?\n") + 1
        begins = sentence + len(passage[sentence:]) - len(passage[sentence:].lstrip())
        return Span(begins, begins + len(passage[begins:].split()[0]))


def test_readers_change_per_query(index_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never = replace(fake_models.READER_SPEC.calibration, threshold=1.0)
    other = replace(fake_models.READER_SPEC, name="other-reader", other_names=("nickname",), calibration=never)
    known, loaded = registry.models(), []
    monkeypatch.setattr("odqa.models.registry.models", lambda **_: (*known, other))

    def load(name: str) -> fake_models.LastWordReader:
        loaded.append(name)
        return FirstWordReader() if name == other.name else fake_models.LastWordReader()

    monkeypatch.setattr("odqa.pipeline.load_reader", load)
    question = "The oldest ship was built by whom?"
    with pipeline.open(index_dir) as qa:
        found = [qa.query(question, reader=name) for name in (None, "other-reader", "nickname", None)]
        assert [one.answers[0].text for one in found] == ["Ingrid", "The", "The", "Ingrid"]
        assert [one.answer is None for one in found] == [False, True, True, False]  # each by its own threshold
        assert loaded == [fake_models.READER, "other-reader"]
        assert qa.reader.name == fake_models.READER
        many = qa.query_many(["The gull eats what?", question], reader="other-reader")
        assert [one.answers[0].text for one in many] == ["The", "The"]
        with pytest.raises(UnknownModelError, match=r"'nobody'; use one of: fake-reader, other-reader$"):
            qa.query(question, reader="nobody")
        with pytest.raises(ModelError, match="model fake-encoder is an encoder, not a reader; name a reader"):
            qa.query_many([question], reader=fake_models.ENCODER)


# ---- writing -------------------------------------------------------------------------------------------------------


def test_a_missing_path(index_dir: Path, tmp_path: Path) -> None:
    before = frozen_state(index_dir)
    with pipeline.open(index_dir, writable=True) as qa, pytest.raises(IngestError, match="nowhere: does not exist"):
        qa.index([tmp_path / "docs", tmp_path / "nowhere"])
    assert {k: v for k, v in frozen_state(index_dir).items() if k != "lock"} == {
        k: v for k, v in before.items() if k != "lock"
    }


def test_delete(index_dir: Path) -> None:
    with pipeline.open(index_dir, writable=True) as qa:
        assert qa.delete(["docs/gulls.txt", "docs/none.txt"]) == ["docs/gulls.txt"]
        assert qa.delete(["docs/gulls.txt"]) == []
        assert "docs/gulls.txt" not in qa.doc_ids()
        for mode in settings.MODES:
            assert "docs/gulls.txt" not in doc_ids(qa, "The gull eats chips.", mode=mode, top_k=50)
        assert qa.document("docs/gulls.txt") is None


def test_a_deleted_document_comes_back_with_the_next_run(index_dir: Path, tmp_path: Path) -> None:
    with pipeline.open(index_dir, writable=True) as qa:
        qa.delete(["docs/gulls.txt"])
        assert qa.index([tmp_path / "docs"]).added == ("docs/gulls.txt",)
        assert doc_ids(qa, "The gull eats chips.")[0] == "docs/gulls.txt"


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "foreign"])
def test_a_damaged_snapshot_is_rebuilt_with_a_notice(index_dir: Path, damage: str) -> None:
    questions = ["What is the great whale of Skarn called?", "ship", "gull"]
    with pipeline.open(index_dir) as qa:
        right = [without_time(qa.query(question)) for question in questions]
        assert qa.notices == ()
    (snapshot,) = index_dir.glob("vectors-*.faiss")
    data = bytearray(snapshot.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 0x10
        snapshot.write_bytes(data)
    elif damage == "cut":
        snapshot.write_bytes(data[: len(data) // 2])
    elif damage == "foreign":
        snapshot.write_bytes(b"something else")
    else:
        snapshot.unlink()
    with pipeline.open(index_dir) as qa:
        assert [without_time(qa.query(question)) for question in questions] == right
        assert any("rebuilt from odqa.sqlite" in notice for notice in qa.notices)
    with pipeline.open(index_dir) as qa:
        assert [without_time(qa.query(question)) for question in questions] == right
        assert qa.notices == ()
    assert pipeline.check(index_dir).clean


def test_check(index_dir: Path, tmp_path: Path) -> None:
    report = pipeline.check(index_dir)
    assert report.clean
    assert (report.problems, report.documents) == ((), 5)
    with pytest.raises(NoIndexError):
        pipeline.check(tmp_path / "nowhere")
    with pipeline.open(index_dir, writable=True), pytest.raises(LockedIndexError):
        pipeline.check(index_dir)


# ---- early exit ----------------------------------------------------------------------------------------------------


def test_passages_that_cannot_win_are_read_when_asked_for(index_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    real = fake_models.LastWordReader.read_many

    def read_many(
        self: fake_models.LastWordReader, questions: Sequence[str], passages: Sequence[Sequence[str]], *, n_best: int
    ) -> list[list[SpanCandidate]]:
        given.append(sum(map(len, passages)))
        return real(self, questions, passages, n_best=n_best)

    monkeypatch.setattr(fake_models.LastWordReader, "read_many", read_many)
    question = "What is the great whale of Skarn called?"
    with pipeline.open(index_dir) as qa:
        qa._reader_spec = replace(qa._reader_spec, calibration=replace(qa.calibration, unread_above=(0.0,)))
        short, whole = qa.query(question), qa.query(question, read_all=True)
        assert given == [1, len(whole.passages)]
        assert len(short.passages) == len(whole.passages) > 1
        assert short.answer is not None
        assert short.answer.span == whole.answer.span if whole.answer else False
        assert len(short.answers) < len(whole.answers)
        given.clear()
        assert [result.answers for result in qa.query_many([question] * 3, read_all=True)] == [whole.answers] * 3
