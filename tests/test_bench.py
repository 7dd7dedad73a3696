"""`odqa bench` on fake models: what is asked, how often, what is shown. Nothing is timed: the clock is a counter."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import fake_models
import pytest
from fake_models import write_files

from odqa import bench, cli, pipeline, settings
from odqa.bench import Times
from odqa.errors import NoIndexError, OdqaError

FILES = {
    "whales.md": "The great whale of Skarn is called Borealis. It sings.\n",
    "seals.md": "The seal of Orrel is called Bo.\n",
}
SEALS = ["seals", "The seal of Orrel is called Bo."]
WHALES = ["whales", "The great whale of Skarn is called Borealis."]
Asked = list[tuple[Path, str, str | None]]


@pytest.fixture(autouse=True)
def _fake_models(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_models.use_fake_models(monkeypatch)


@pytest.fixture
def index_dir(tmp_path: Path) -> Path:
    folder = write_files(tmp_path / "docs", FILES)
    with pipeline.open(tmp_path / "index", create=True) as qa:
        qa.index([folder])
    return tmp_path / "index"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The questions that would have been asked in processes of their own, which do not know the fake models."""
    asked: Asked = []
    monkeypatch.setattr(
        bench, "cold_start", lambda folder, question, *, reader: asked.append((folder, question, reader))
    )
    return asked


def counter() -> Callable[[], float]:
    """A clock that is a second later whenever it is looked at, so that everything takes a second."""
    return itertools.count(1.0).__next__


def test_every_step_is_measured(index_dir: Path, started: Asked) -> None:
    steps = []
    report = bench.measure(index_dir, seconds=0, progress=lambda *step: steps.append(step), clock=counter())
    once = Times(p50_seconds=1.0, p95_seconds=1.0, runs=3)
    assert report.search == {"hybrid": once, "dense": once, "text": once}
    assert (report.read, report.query, report.cold_start) == (once, once, once)
    # Title and text in words and signs, with [CLS] and [SEP]: 1 + 8 + 2 and 1 + 12 + 2 tokens, encoded in a second.
    assert report.encoder_tokens_per_second == 11 + 15
    assert report.encoder_passages_per_second == 2
    assert report.index.documents == 2
    assert report.cores >= 1
    assert set(report.versions) == {"python", "odqa", "openvino", "faiss-cpu"}
    assert (report.peak_memory_bytes or 1e9) > 1e6
    assert [name for name, _, _ in steps] == [
        "encode",
        "hybrid",
        "dense",
        "text",
        "read",
        "query",
        "cold start",
        "done",
    ]
    assert [done for _, done, _ in steps] == list(range(8))
    assert {total for _, _, total in steps} == {7}


def test_questions_are_titles_and_first_sentences(index_dir: Path, started: Asked) -> None:
    bench.measure(index_dir, seconds=0, clock=counter())
    assert started == [(index_dir, question, None) for question in [*SEALS, *WHALES]]  # one to warm up, three timed


def test_the_time_is_shared_out(index_dir: Path, started: Asked) -> None:
    report = bench.measure(index_dir, seconds=4 * sum(bench.STEPS.values()), clock=counter())
    # A run takes two looks at the clock, and the question whether there is time left one more. Three runs end at 6:
    # with 8 seconds the look at 7 allows one more and the look at 10 none; with 4 seconds the look at 7 allows none.
    assert report.read.runs == 4
    assert report.query.runs == 4
    assert [times.runs for times in report.search.values()] == [3, 3, 3]


@pytest.mark.parametrize(("values", "p50", "p95"), [([3, 1, 2], 2, 3), (list(range(1, 21)), 10, 19), ([4.0], 4.0, 4.0)])
def test_percentiles_are_nearest_ranks(values: list[float], p50: float, p95: float) -> None:
    assert (bench.percentile(values, 50), bench.percentile(values, 95)) == (p50, p95)


def test_many_documents_are_asked_evenly(tmp_path: Path, started: Asked) -> None:
    lines = [json.dumps({"id": number, "title": f"t{number:03}", "text": f"Text {number}."}) for number in range(320)]
    write_files(tmp_path, {"many.jsonl": "\n".join(lines)})
    with pipeline.open(tmp_path / "index", create=True) as qa:
        qa.index([tmp_path / "many.jsonl"])
        doc_ids = qa.doc_ids()
        titles = [passage.title for passage in bench._passages(qa)]
        assert titles == [qa.document(doc_id).title for doc_id in doc_ids[::10]]  # type: ignore[union-attr]


def test_what_cannot_be_measured_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoIndexError, match="no index"):
        bench.measure(tmp_path / "nowhere")
    with pipeline.open(tmp_path / "empty", create=True):
        pass
    with pytest.raises(NoIndexError, match="is empty"):
        bench.measure(tmp_path / "empty")
    write_files(tmp_path, {"???.jsonl": '{"id": "1", "title": "!", "text": "?!"}'})
    with pipeline.open(tmp_path / "signs", create=True) as qa:
        qa.index([tmp_path / "???.jsonl"])
    with pytest.raises(NoIndexError, match="no words"):
        bench.measure(tmp_path / "signs")


def test_a_failing_process_is_told_in_its_own_words(index_dir: Path) -> None:
    with pytest.raises(OdqaError, match=r"failed in a process of its own: odqa: .*fake-encoder"):
        bench.cold_start(index_dir, "Who?", reader=None)


def test_the_command_shows_and_writes_the_figures(
    index_dir: Path,
    started: Asked,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["bench", "--index-dir", str(index_dir), "--seconds", "0"]) == 0
    out, err = capfd.readouterr()
    shown = {line.split(":")[0] for line in out.splitlines()}
    searches = {f"Search, {mode}" for mode in settings.MODES}
    assert shown == searches | {
        "Index", "Machine", "Versions", "Encoder", "Read", "Query", "Cold `odqa query`", "Peak memory"
    }  # fmt: skip
    assert "2 documents, 2 passages" in out
    assert err == ""
    assert (
        cli.main(["bench", "--index-dir", str(index_dir), "--seconds", "0", "--reader", fake_models.READER, "--json"])
        == 0
    )
    held = json.loads(capfd.readouterr().out)
    assert held["query"]["runs"] == 3
    assert set(held["search"]) == set(settings.MODES)
    assert started[-1][2] == fake_models.READER
    for seconds in ("-1", "nan", "soon"):
        assert cli.main(["bench", "--index-dir", str(index_dir), "--seconds", seconds]) == 2
