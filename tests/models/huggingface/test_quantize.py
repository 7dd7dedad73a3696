"""Int8 by NNCF; needs the extra `import`."""

from __future__ import annotations

from pathlib import Path

import bert_cases
import numpy as np
import pytest

from odqa.errors import ModelError
from odqa.models import convert, registry
from odqa.models.convert import import_model
from odqa.models.huggingface.quantize import quantize
from odqa.models.opening import open_model
from odqa.models.runtime import core

pytestmark = pytest.mark.slow

WORDS = ["the", "cat", "sat", "on", "mat", "who", "where", "paris", "tower", "cafe", "2000"]


def texts(count: int) -> list[str]:
    rng = np.random.default_rng(1)
    return [f"{' '.join(rng.choice(WORDS, 6))}? {' '.join(rng.choice(WORDS, 60))}." for _ in range(count)]


def write(folder: Path, task: str) -> None:
    config = bert_cases.config(architectures=["BertForQuestionAnswering" if task == "read" else "BertModel"])
    reads = task == "read"
    tensors = bert_cases.tensors(config, prefix="bert." if reads else "", head=reads)
    bert_cases.write_folder(folder, config, tensors)


@pytest.mark.parametrize("task", ["read", "encode"])
def test_int8(task: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "source", task)
    environment = {"ODQA_MODELS_DIR": str(tmp_path / "models")}
    given = texts(40)
    spec = import_model(
        tmp_path / "source", name="mine", precision="int8", calibration_texts=given, environment=environment
    )
    plain = import_model(tmp_path / "source", name="plain", precision="fp32", environment=environment)
    assert capfd.readouterr() == ("", "")
    folder = tmp_path / "models" / "mine"
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "network.bin", "network.xml", "vocab.txt"]
    assert registry.find("mine", environment=environment) == spec
    assert spec.architecture.endswith("; int8")
    assert 95 < spec.measured["int8_agreement_percent"] <= 100
    kinds = [node.get_type_name() for node in core().read_model(folder / "network.xml").get_ops()]
    assert kinds.count("FakeQuantize") >= 12
    assert spec.file("weights").size < plain.file("weights").size / 2  # type: ignore[operator]
    # The figure is that of the texts kept apart: every tenth.
    tokenizer, network = open_model(spec, environment=environment)
    rows = convert._rows(spec, tokenizer, given)[::10]
    both = [network, open_model(plain, environment=environment)[1]]
    if task == "read":
        pairs = zip(*[[np.stack(pair) for pair in one.logits(rows)] for one in both], strict=True)
    else:
        pairs = zip(*[one.vectors(rows) for one in both], strict=True)
    agreement = np.mean([convert._agreement(*pair, task) for pair in pairs])
    assert 100 * agreement == pytest.approx(spec.measured["int8_agreement_percent"], abs=0.01)


def test_a_network_that_int8_breaks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "source", "read")
    environment = {"ODQA_MODELS_DIR": str(tmp_path / "models")}
    monkeypatch.setattr(convert, "MIN_AGREEMENT", 1.01)
    with pytest.raises(ModelError, match=r"agrees with the float32 network to .* only"):
        import_model(
            tmp_path / "source", name="mine", precision="int8", calibration_texts=texts(20), environment=environment
        )
    assert list((tmp_path / "models").iterdir()) == []


def test_what_nncf_says_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"NNCF cannot quantise this network: .*none\.xml"):
        quantize(tmp_path / "none.xml", [{"input_ids": np.ones((1, 4), np.int32)}], tmp_path / "out.xml")
    assert list(tmp_path.iterdir()) == []
