"""The commands of `odqa models`, and what other commands say of a model that is not here."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import small_networks
from cli_cases import Run
from tiny_bert import write_folder

from odqa.models import registry

CASED = "bert-large-cased-whole-word-masking-finetuned-squad"
ZOO_ENCODER = "bert-small-uncased-whole-word-masking-squad-emb-int8-0001"
ZOO_READER = "bert-small-uncased-whole-word-masking-squad-0001"
READER = "odqa-reader-small-int8"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A registry with the bundled models, a small reader to pull and a system to convert; and a mirror of both."""
    root = tmp_path / "mirror"
    small = small_networks.reader_spec(root)
    files = [
        replace(
            file,
            url=f"https://example.org/{file.name}",
            checksum="sha384:" + hashlib.sha384((root / small.name / file.name).read_bytes()).hexdigest(),
        )
        for file in small.files
    ]
    kept = [spec for spec in registry.published() if spec.source == "bundled" or spec.name == CASED]
    entries = [registry.entry_of(spec) for spec in (*kept, replace(small, files=tuple(files)))]
    (tmp_path / "registry.json").write_text(json.dumps(entries), encoding="utf-8")
    write_folder(root / CASED)
    registry.published.cache_clear()
    monkeypatch.setattr(registry, "REGISTRY", tmp_path / "registry.json")
    yield root
    registry.published.cache_clear()


# ---- list, show ----------------------------------------------------------------------------------------------------


def test_list_says_what_is_here(run: Run, mirror: Path) -> None:
    def states() -> dict[str, bool]:
        return {model["name"]: model["here"] for model in json.loads(run("models", "list", "--json")[1])["models"]}

    before = {"odqa-encoder-small-int8": True, READER: True, CASED: False, "small-reader": False}
    assert states() == before
    out = run("models", "list")[1]
    assert "small-reader  (reader, " in out
    assert "not pulled)" in out
    run("models", "pull", "small-reader", "--base-url", mirror.as_uri())
    run("models", "import", str(mirror / CASED), "--name", "mine")
    assert states() == before | {"small-reader": True, "mine": True}
    out = run("models", "list")[1]
    assert "mine  (reader, imported, " in out
    Path("models", "mine", "network.bin").unlink()
    assert "mine  (reader, imported, " in (out := run("models", "list")[1])
    assert "not complete)" in out


def test_list_tells_of_entries_that_cannot_be_read_and_goes_on(run: Run, tmp_path: Path) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "models" / "mine" / "model.json").write_text("{", encoding="utf-8")
    code, out, err = run("models", "list")
    assert code == 0
    assert READER in out
    assert err.startswith("odqa: model mine: ")
    assert "`odqa models remove mine`" in err
    assert err.count("\n") == 1
    assert run("query", "Who?", "--reader", "mine")[2] == err


def test_show(run: Run) -> None:
    code, out, err = run("models", "show", "bert-large-uncased-whole-word-masking-squad-fp32-0001")
    assert (code, err) == (0, "")
    for told in (
        "bert-large-uncased-whole-word-masking-squad-0001  (reader, 1337.4 MB, not pulled)",
        "squad v1.1 dev f1 93.21 %; squad v1.1 dev exact match 87.2 %",
        "246.93 GOps for 384 tokens",
        "333.96 million",
        "Apache-2.0",
        "window 384, question 64",
        "output_s, output_e",
        "/FP32/bert-large-uncased-whole-word-masking-squad-0001.bin",
        "sha384:d42ef40059b6dd54c00436fc1ad790f0e9df6847c53f0d20cc539bf9f09f482596bd5caafcaf97f5c9930404cb28f1f3",
    ):
        assert told in out
    shown = json.loads(run("models", "show", ZOO_ENCODER, "--json")[1])
    assert shown["width"] == 1024
    assert (shown["gops"], shown["parameters_millions"], shown["form"], shown["here"]) == (23.9, 41.1, "ir", False)
    assert [one["size_bytes"] for one in shown["sources"]] == [1158059, 41732846, 231508]
    assert (shown["converted"], shown["recorded"]) == ([], {})


def test_show_says_that_no_checksum_is_published_and_what_was_recorded(run: Run, mirror: Path) -> None:
    out = run("models", "show", CASED)[1]
    assert out.count("no checksum is published: it is trusted at its first download") == 4
    assert "or pytorch_model.bin in its place" in out
    run("models", "pull", CASED, "--base-url", mirror.as_uri())
    weights = "sha256:" + hashlib.sha256((mirror / CASED / "model.safetensors").read_bytes()).hexdigest()
    out = run("models", "show", CASED)[1]
    assert f"model.safetensors: {weights}, recorded at its first download on 20" in out
    assert "Converted into" in out
    shown = json.loads(run("models", "show", CASED, "--json")[1])
    assert shown["recorded"]["model.safetensors"]["checksum"] == weights
    assert [one["checksum"] for one in shown["sources"]] == [None] * 4
    assert [one["name"] for one in shown["converted"]] == ["network.xml", "network.bin", "vocab.txt"]
    assert shown["here"] is True


# ---- pull, verify, remove ------------------------------------------------------------------------------------------


def test_pull_verify_and_remove(run: Run, mirror: Path, tmp_path: Path) -> None:
    place = tmp_path / "models" / "small-reader"
    names = ["network.xml", "network.bin", "vocab.txt"]
    code, out, err = run("models", "pull", "small-reader", "--base-url", mirror.as_uri())
    assert (code, err) == (0, "")
    assert out == f"small-reader is here: fetched {', '.join(names)}\nFolder: {place}\n"
    again = json.loads(run("models", "pull", "small-reader", "--base-url", mirror.as_uri(), "--json")[1])
    assert again == {"name": "small-reader", "folder": str(place), "fetched": [], "trusted": []}
    assert run("models", "verify", "small-reader") == (0, "small-reader: whole\n", "")
    assert run("models", "verify")[:2] == (
        0,
        f"odqa-encoder-small-int8: whole\n{READER}: whole\n{CASED}: not pulled\nsmall-reader: whole\n",
    )
    size = sum(path.stat().st_size for path in place.iterdir())
    code, out, err = run("models", "remove", "small-reader", "--json")
    assert (code, json.loads(out), err) == (0, {"name": "small-reader", "folder": str(place), "size_bytes": size}, "")
    assert not place.exists()
    code, out, err = run("models", "verify", "small-reader")
    assert (code, err) == (1, "")
    assert out.startswith("small-reader: not pulled: ")
    assert "`odqa models pull small-reader`" in out


def test_verify_finds_damage(run: Run, mirror: Path, tmp_path: Path) -> None:
    run("models", "pull", "small-reader", "--base-url", mirror.as_uri())
    path = tmp_path / "models" / "small-reader" / "network.bin"
    path.write_bytes(bytes(path.stat().st_size))
    (tmp_path / "models" / "mine").mkdir()
    (tmp_path / "models" / "mine" / "model.json").write_text("{", encoding="utf-8")
    code, out, _ = run("models", "verify", "--json")
    states = {model["name"]: model["state"] for model in json.loads(out)["models"]}
    assert (code, states) == (
        1,
        {
            "odqa-encoder-small-int8": "whole",
            READER: "whole",
            CASED: "not pulled",
            "small-reader": "damaged",
            "mine": "damaged",
        },
    )
    code, out, err = run("models", "verify", "small-reader")
    assert (code, err) == (1, "")
    assert f"small-reader: damaged: model small-reader: {path} has checksum sha384:" in out
    assert "`odqa models pull small-reader`" in out
    run("models", "pull", "small-reader", "--base-url", mirror.as_uri())  # as it says
    assert run("models", "verify", "small-reader")[0] == 0


def test_a_pulled_system_is_converted_and_trusted_at_first_use(run: Run, mirror: Path, tmp_path: Path) -> None:
    code, out, err = run("models", "pull", f"google-bert/{CASED}", "--base-url", mirror.as_uri())
    assert (code, err) == (0, f"odqa: {CASED}: converting it to OpenVINO's form, fp16\n")
    assert "No checksum is published of them; what came was recorded" in out
    assert run("models", "verify", CASED) == (0, f"{CASED}: whole\n", "")
    run("models", "pull", CASED, "--base-url", mirror.as_uri(), "--precision", "fp32")
    shown = json.loads(run("models", "show", CASED, "--json")[1])
    assert "float32" in shown["architecture"]
    assert run("models", "remove", CASED)[0] == 0
    assert not list((tmp_path / "models").rglob("recorded.json"))


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("pull", "gpt"), 1, "no model is named 'gpt'; use one of: odqa-encoder-small-int8, "),
        (("pull", READER), 1, "is in the package; there is nothing to pull"),
        (("pull", ZOO_READER, "--base-url", "/mnt"), 2, "write http://…, https://… or file:///…"),
        (("pull", ZOO_READER, "--base-url", ""), 2, "is not an address"),
        (("pull", ZOO_READER, "--precision", "fp16"), 2, "one precision"),
        (("pull", CASED, "--precision", "int4"), 2, "'int4' is not one of fp32, fp16, int8"),
        (("pull", CASED, "--precision", "int8"), 2, "int8 needs texts"),
        (("pull", CASED, "--precision", "int8", "--calibration", "nowhere"), 2, "nowhere cannot be read: no such file"),
        (("pull", CASED, "--precision", "int8", "--calibration", "blank.txt"), 2, "blank.txt holds no text"),
        (("pull", CASED, "--precision", "int8", "--calibration", "latin.txt"), 2, "latin.txt is not UTF-8"),
        (("pull", ZOO_READER, "--base-url", "file:///nowhere"), 1, "there is no such file; see docs/models.md"),
        (("show", "gpt"), 1, "no model is named 'gpt'"),
        (("verify", "gpt"), 1, "no model is named 'gpt'"),
        (("verify", " "), 2, "it is blank"),
        (("remove", READER), 1, "is in the package and cannot be removed"),
        (("remove", ZOO_READER), 1, "is not here; there is nothing to remove"),
        (("remove", "../models"), 1, "no model is named"),
        (("import", "nowhere", "--name", "mine"), 1, "nowhere is not a folder"),
        (("import", "."), 2, "Missing option '--name'"),
        (("import", ".", "--name", "a/b"), 2, "'a/b' cannot be a name"),
        (("import", ".", "--name", "mine", "--precision", "int8"), 2, "(--calibration FILE)"),
        (("import", ".", "--name", READER), 1, "is the name of a model that odqa knows"),
        (("import", ".", "--name", "mine", "--task", "chat"), 2, "'chat' is not one of read, encode"),
        (("import", ".", "--name", "mine", "--calibration", "texts.txt"), 2, "only int8"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Run, tmp_path: Path, words: tuple[str, ...], code: int, told: str
) -> None:
    (tmp_path / "blank.txt").write_text("\n \n", encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes("Käse".encode("latin-1"))
    (tmp_path / "texts.txt").write_text("a\n", encoding="utf-8")
    found, out, err = run("models", *words)
    assert (found, out) == (code, "")
    assert told in err
    assert err.count("\n") == 1
    files = [path for path in (tmp_path / "models").rglob("*") if path.is_file() and ".locks" not in path.parts]
    assert files == []


# ---- import --------------------------------------------------------------------------------------------------------


def test_import(run: Run, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "source")
    code, out, err = run("models", "import", str(folder), "--name", "mine", "--precision", "fp32", "--task", "read")
    assert (code, err) == (0, "odqa: mine: converting it to OpenVINO's form, fp32\n")
    assert out.startswith("mine  (reader, imported, ")
    shown = json.loads(run("models", "import", str(folder), "--name", "other", "--json")[1])
    assert (shown["name"], shown["task"], shown["source"], shown["here"]) == ("other", "read", "local", True)
    assert run("models", "verify", "mine")[0] == 0
    code, out, err = run("models", "import", str(folder), "--name", "mine")
    assert (code, out) == (1, "")
    assert "`odqa models remove mine` first" in err
    code, _, err = run("models", "import", str(folder), "--name", "third", "--task", "encode")
    assert code == 1
    assert "BertForQuestionAnswering" in err


def test_calibration_texts_are_the_lines_of_a_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    def import_folder(path: Path, **more: object) -> registry.ModelSpec:
        given.update({"path": path, **more})
        return registry.find(READER)

    monkeypatch.setattr("odqa.models.manage.import_folder", import_folder)
    (tmp_path / "texts.txt").write_text("\ufeffOne text.\r\n\r\n  Another text. \n", encoding="utf-8")
    words = ("--precision", "int8", "--calibration", "texts.txt")
    assert run("models", "import", "folder", "--name", "mine", *words)[0] == 0
    del given["progress"]
    assert given == {
        "path": Path("folder"),
        "name": "mine",
        "precision": "int8",
        "task": None,
        "calibration_texts": ["One text.", "Another text."],
    }


# ---- other commands ------------------------------------------------------------------------------------------------


def test_models_that_were_not_pulled_say_how_to_get_them_and_imported_ones_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("The tower was designed by Ambrose Kell.", encoding="utf-8")
    told = "odqa: model {0} has not been pulled: get it with `odqa models pull {0}`\n"
    words = ("index", "notes.txt", "--encoder", ZOO_ENCODER, "--index-dir", "other")
    assert run(*words) == (1, "", told.format(ZOO_ENCODER))
    assert not (tmp_path / "other").exists()
    assert run("index", "notes.txt", "--index-dir", "ix", "--json")[0] == 0
    for reader in (ZOO_READER, CASED):
        assert run("query", "Who?", "--reader", reader, "--index-dir", "ix") == (1, "", told.format(reader))
    run("models", "import", str(write_folder(tmp_path / "source")), "--name", "mine")
    code, out, err = run("query", "Who?", "--reader", "mine", "--index-dir", "ix", "--json", "--threshold", "0")
    assert (code, err) == (0, "")
    assert json.loads(out)["answers"][0]["text"] in "The tower was designed by Ambrose Kell."


# ---- as a process of its own ---------------------------------------------------------------------------------------

# Takes Ctrl-C also where the tests run in the background and ignore it; stops in the middle of the weights.
STOPPING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from odqa.models import fetch, registry
from pathlib import Path
registry.REGISTRY = Path(sys.argv[1])
fetch.CHUNK_BYTES = 100
write = fetch._Part.write
def slow(part, file, piece):
    write(part, file, piece)
    if part.path.name == "network.bin.part" and part.size >= 500:
        os.kill(os.getpid(), signal.SIGINT)
fetch._Part.write = slow
from odqa.cli import main
sys.exit(main(sys.argv[2:]))
"""


def test_ctrl_c_says_how_to_go_on(run: Run, mirror: Path, tmp_path: Path) -> None:
    words = ["models", "pull", "small-reader", "--base-url", mirror.as_uri()]
    command = [sys.executable, "-c", STOPPING, str(tmp_path / "registry.json"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == ("odqa: interrupted; what has come stays. To go on from there, run the same command again\n")
    part = tmp_path / "models" / "small-reader" / "network.bin.part"
    assert part.read_bytes() == (mirror / "small-reader" / "network.bin").read_bytes()[: part.stat().st_size]
    assert run(*words)[0] == 0


def test_help_loads_nothing_that_fetches() -> None:
    code = (
        "import sys\nfrom odqa.cli import main\n"
        "main(['models', 'pull', '--help']); main(['models', 'list', '--json'])\n"
        "print(*[n for n in ('numpy', 'openvino', 'urllib.request', 'ssl') if n in sys.modules], 'loaded')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: odqa models pull")
    assert done.stdout.splitlines()[-1] == "loaded"
