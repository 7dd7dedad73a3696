from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import fake_models
import pytest

from odqa import pipeline
from odqa.errors import IngestError, NoIndexError
from odqa.evaluation import Dataset, GoldQuestion, evaluate, paragraph_index, read_dataset

PARAGRAPHS = {
    "Whale_song": ["The whale of Skarn is called Borealis.", "The seal of Orrel eats herring."],
    "Ship": ["The oldest ship was built by Ingrid."],
}
# Question, accepted answers, number of its paragraph. The reader answers with the last word of the sentence that shares
# most words with the question; its score is the number of words shared less 2.5.
ASKED = [
    ("What is the whale of Skarn called?", ["Borealis", "the Borealis"], 0),  # the, whale, of, skarn, is, called: right
    ("What does the seal of Orrel eat?", ["the herring"], 1),  # the, seal, of, orrel: right but for the article
    ("The oldest ship was built in which year?", ["built by 1899"], 2),  # "Ingrid": wrong, without a shared word
    ("The oldest ship was built by whom?", ["Ingrid Saether"], 2),  # "Ingrid": F1 2/3
]


@pytest.fixture(autouse=True)
def _fake_models(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_models.use_fake_models(monkeypatch)


def squad() -> dict[str, object]:
    articles, number = [], 0
    for title, texts in PARAGRAPHS.items():
        paragraphs = []
        for text in texts:
            qas = [
                {"id": q, "question": q, "answers": [{"text": a, "answer_start": 0} for a in [*answers, answers[0]]]}
                for q, answers, paragraph in ASKED
                if paragraph == number
            ]
            paragraphs.append({"context": text, "qas": qas})
            number += 1
        articles.append({"title": title, "paragraphs": paragraphs})
    return {"version": "1.1", "data": articles}


@pytest.fixture
def squad_file(tmp_path: Path) -> Path:
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(squad()), encoding="utf-8")
    return path


def lines_file(path: Path, records: list[dict[str, object]]) -> Path:
    path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records), encoding="utf-8")
    return path


def sigmoid(score: float) -> float:
    return 1.0 / (1.0 + math.exp(-score))


# ---- reading data sets ---------------------------------------------------------------------------------------------


def test_a_squad_file(squad_file: Path) -> None:
    assert read_dataset(squad_file) == Dataset(
        questions=tuple(GoldQuestion(q, tuple(answers), paragraph) for q, answers, paragraph in ASKED),
        paragraphs=tuple(text for texts in PARAGRAPHS.values() for text in texts),
        titles=("Whale song", "Whale song", "Ship"),
        articles=(0, 0, 1),
    )


def test_json_lines(tmp_path: Path) -> None:
    records = [
        {"question": "Who?", "answers": ["a\u2028b", "b"], "doc": "x.md"},
        {"question": "Где?", "answers": []},
    ]
    wanted = Dataset((GoldQuestion("Who?", ("a\u2028b", "b")), GoldQuestion("Где?", ())))
    path = lines_file(tmp_path / "lines.jsonl", records)
    assert read_dataset(path) == wanted
    path.write_bytes(b"\xef\xbb\xbf\r\n" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    assert read_dataset(path) == wanted


def test_gzip_makes_no_difference(squad_file: Path, tmp_path: Path) -> None:
    packed = tmp_path / "squad.json.gz"
    packed.write_bytes(gzip.compress(squad_file.read_bytes()))
    assert read_dataset(packed) == read_dataset(squad_file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no questions"),
        ("\n\n", "holds no questions"),
        ('{"data": [{"paragraphs": []}]}', "holds no questions"),
        ("not json", "is neither a SQuAD-format file nor JSON lines"),
        ("[1, 2]", "is neither"),
        ('{"question": "Who?"}', "is neither.*answers"),
        ('{"question": "Who?", "answers": "Ada"}', "is neither.*a list of texts"),
        ('{"question": null, "answers": []}', "is neither.*has to be a text"),
        ('{"question": "Who?", "answers": [1843]}', "is neither.*a list of texts"),
        ('{"data": [{"paragraphs": [{"context": "x"}]}]}', "is neither.*qas"),
        ('{"question": "Who?", "answers": []}\n{"question": "?!", "answers": []}', "question 2 has no words"),
        (
            '{"data": [{"paragraphs": [{"context": " ", "qas": [{"question": "Who?", "answers": []}]}]}]}',
            "paragraph 1 is blank",
        ),
    ],
)
def test_files_that_are_no_data_set(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "set.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(IngestError, match=rf"set\.json.*{message}"):
        read_dataset(path)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("missing.json", None),
        ("latin.json", b'{"question": "caf\xe9"}'),
        ("cut.json.gz", gzip.compress(b'{"question": "Who?", "answers": []}' * 9)[:-12]),
        ("broken.json.gz", gzip.compress(bytes(range(256)) * 9)[:30] + b"\xff" * 60),
        ("plain.json.gz", b"{}"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(IngestError, match=rf"the data set .*{name} cannot be read"):
        read_dataset(tmp_path / name)


# ---- figures -------------------------------------------------------------------------------------------------------


def test_known_figures_over_own_paragraphs(squad_file: Path) -> None:
    report = evaluate(squad_file)
    assert report.questions == 4
    assert report.retrieval == {"recall@1": 1.0, "recall@5": 1.0, "recall@20": 1.0, "mrr@10": 1.0}
    figures = {"em": 0.5, "f1": pytest.approx((1 + 1 + 0 + 2 / 3) / 4)}
    assert report.reading == {**figures, "f1_oracle_windows": figures["f1"]}
    # Words shared: 6, 4, 5, 6. Right: the first two. Among the four pairs of a right and a wrong answer the right one
    # is above in one (6 > 5), level in one (6 = 6) and below in two.
    probabilities = [sigmoid(6 - 2.5), sigmoid(4 - 2.5), sigmoid(5 - 2.5), sigmoid(6 - 2.5)]
    assert {key: report.end_to_end[key] for key in ("em", "f1")} == figures
    assert report.end_to_end["auroc"] == pytest.approx(1.5 / 4)
    # 15 bins of equal width: 0.818 in the thirteenth; 0.924 and twice 0.971 in the fourteenth and fifteenth.
    bins: dict[int, list[tuple[float, float]]] = {}
    for probability, right in zip(probabilities, [1, 1, 0, 0], strict=True):
        bins.setdefault(int(probability * 15), []).append((probability, right))
    wanted = sum(abs(sum(p - r for p, r in held)) for held in bins.values()) / 4
    assert report.end_to_end["ece"] == pytest.approx(wanted)
    assert report.seconds > 0


def test_ranks_below_the_first_by_hand(tmp_path: Path) -> None:
    """The own paragraph is second in the full text: the other holds the telling word and is shorter."""
    texts = ["The walrus sings all night long and all day long of the sea.", "The walrus."]
    qas = [{"question": "walrus", "answers": [{"text": "sea"}]}]
    paragraphs = [{"context": texts[0], "qas": qas}, {"context": texts[1], "qas": []}]
    path = tmp_path / "walrus.json"
    path.write_text(json.dumps({"data": [{"title": "W", "paragraphs": paragraphs}]}), encoding="utf-8")
    report = evaluate(path, mode="text")
    assert report.retrieval == {"recall@1": 0.0, "recall@5": 1.0, "recall@20": 1.0, "mrr@10": 0.5}


def test_titles_are_found_when_asked_for(tmp_path: Path) -> None:
    qas = [{"question": "walrus", "answers": [{"text": "sea"}]}]
    data = [{"title": "The_walrus", "paragraphs": [{"context": "Sings of the sea.", "qas": qas}]}]
    path = tmp_path / "walrus.json"
    path.write_text(json.dumps({"data": data}), encoding="utf-8")
    assert evaluate(path, mode="text").retrieval["recall@20"] == 0.0
    assert evaluate(path, mode="text", with_titles=True).retrieval["recall@20"] == 1.0
    with (
        paragraph_index(read_dataset(path), encoder=fake_models.BagEncoder(), with_titles=True) as folder,
        pipeline.open(folder) as qa,
    ):
        document = qa.document("0")
        assert document is not None
        assert (document.title, document.text) == ("The walrus", "Sings of the sea.")
    assert not folder.exists()


@pytest.fixture
def index_dir(tmp_path: Path) -> Path:
    texts = [text for texts in PARAGRAPHS.values() for text in texts]
    docs = fake_models.write_files(tmp_path / "docs", {f"{i}.txt": text for i, text in enumerate(texts)})
    with pipeline.open(tmp_path / "index", create=True) as qa:
        qa.index([docs])
    return tmp_path / "index"


def test_known_figures_over_an_index(tmp_path: Path, index_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records: list[dict[str, object]] = [
        {"question": "What is the whale of Skarn called?", "answers": ["Borealis"]},
        {"question": "The oldest ship was built by whom?", "answers": ["Ingrid Saether"]},  # no passage holds it
        {"question": "Who painted herring?", "answers": []},  # one shared word: below the threshold, none
        {"question": "What is the seal of Orrel?", "answers": []},  # three shared words: answered, wrongly
        {"question": "Who, Borealis?", "answers": ["Borealis"]},  # one shared word: right, but improbable
    ]
    path = lines_file(tmp_path / "questions.jsonl", records)
    report = evaluate(path, index_dir=index_dir)
    third = pytest.approx(2 / 3)
    assert report.retrieval == {"recall@1": third, "recall@5": third, "recall@20": third, "mrr@10": third}
    assert report.reading == {}
    assert report.end_to_end["em"] == pytest.approx((1 + 0 + 1 + 0 + 1) / 5)
    assert report.end_to_end["f1"] == pytest.approx((1 + 2 / 3 + 1 + 0 + 1) / 5)
    # Words shared: 6, 6, 1, 3, 1, of which the first and the last give right answers; no answer is never a right one.
    # Of the six pairs of a right and a wrong one, two are won (6 > 1, 6 > 3) and two level (6 = 6, 1 = 1).
    assert report.end_to_end["auroc"] == pytest.approx((2 + 2 / 2) / 6)
    monkeypatch.setenv("ODQA_INDEX_DIR", str(index_dir))
    assert evaluate(path).end_to_end == report.end_to_end


def test_only_unanswerable_questions_have_no_retrieval_figures(tmp_path: Path, index_dir: Path) -> None:
    path = lines_file(tmp_path / "none.jsonl", [{"question": "Who painted herring?", "answers": []}])
    report = evaluate(path, index_dir=index_dir)
    assert (report.retrieval, report.reading) == ({}, {})
    assert set(report.end_to_end) == {"em", "f1", "ece"}  # no curve without a right and a wrong answer


def test_a_sample_depends_on_the_seed_alone(squad_file: Path) -> None:
    once, again = evaluate(squad_file, limit=2, seed=3), evaluate(squad_file, limit=2, seed=3)
    assert once.questions == 2
    assert (once.retrieval, once.reading, once.end_to_end) == (again.retrieval, again.reading, again.end_to_end)
    found = {round(evaluate(squad_file, limit=1, seed=seed).reading["f1"], 3) for seed in range(12)}
    assert found == {0.0, 0.667, 1.0}
    assert evaluate(squad_file, limit=100).questions == 4


def test_progress(squad_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("odqa.evaluation.BATCH", 3)
    seen: list[tuple[str, int, int]] = []
    evaluate(squad_file, progress=lambda *given: seen.append(given))
    assert seen == [(stage, done, 4) for stage in ("retrieval", "reading", "end-to-end") for done in (3, 4)]


def test_one_stage_alone(squad_file: Path) -> None:
    whole = evaluate(squad_file)
    report = evaluate(squad_file, stages=["reading"])
    assert (report.retrieval, report.reading, report.end_to_end) == ({}, whole.reading, {})


def test_abstention_by_hand(squad_file: Path) -> None:
    """Words shared with the best sentence: 6, 4, 5, 6 with the own article; without it those of the other one."""
    report = evaluate(squad_file, stages=["abstention"])
    assert (report.retrieval, report.reading, report.end_to_end) == ({}, {}, {})
    # Without "Whale song": "the oldest ship was built by Ingrid" shares "the" with both of its questions. Without
    # "Ship": "the whale of Skarn is called Borealis" and "the seal of Orrel eats herring" share "the" with both.
    present, absent = [6, 4, 5, 6], [1, 1, 1, 1]
    probabilities = [sigmoid(n - 2.5) for n in present + absent]
    right = [1, 1, 0, 0, 0, 0, 0, 0]
    bins: dict[int, list[float]] = {}
    for probability, correct in zip(probabilities, right, strict=True):
        bins.setdefault(int(probability * 15), []).append(probability - correct)
    assert report.abstention == {
        "auroc": 1.0,
        "ece": pytest.approx(sum(abs(sum(held)) for held in bins.values()) / 8),
        "answered": 1.0,
        "refused": 1.0,
    }


def test_abstention_needs_paragraphs_of_known_articles(tmp_path: Path, index_dir: Path) -> None:
    path = lines_file(tmp_path / "one.jsonl", [{"question": "Who, Borealis?", "answers": ["Borealis"]}])
    assert evaluate(path, index_dir=index_dir, stages=["abstention"]).abstention == {}


def test_wrong_arguments(squad_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="limit is 0"):
        evaluate(squad_file, limit=0)
    with pytest.raises(ValueError, match="unknown mode 'odd'"):
        evaluate(squad_file, mode="odd")
    with pytest.raises(ValueError, match="unknown stage 'odd'"):
        evaluate(squad_file, stages=["odd"])
    with pytest.raises(NoIndexError):
        evaluate(squad_file, index_dir=tmp_path / "nowhere")
