from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
import small_networks

from odqa import settings
from odqa.errors import DamagedModelError, MissingModelError, ModelError, UnknownModelError
from odqa.models import registry

ZOO_READER = "bert-small-uncased-whole-word-masking-squad-0001"
CASED = "bert-large-cased-whole-word-masking-finetuned-squad"
SPARSE = "bert-base-uncased-squad1.1-block-sparse-0.32-v1"
VOCABULARY = "sha384:ef26234c552cb23207a4bed2376a06eecf1d09ed00018519755df0e57551c2e55bc97e1877b0029e08b0cebdc65b0c82"


def test_the_registry_holds_the_defaults_and_the_zoo() -> None:
    names = [spec.name for spec in registry.models()]
    assert names[:2] == [settings.DEFAULT_ENCODER, settings.DEFAULT_READER]
    assert registry.find(settings.DEFAULT_ENCODER).task == "encode"
    assert registry.find(settings.DEFAULT_ENCODER).width == 1024
    assert registry.find(settings.DEFAULT_READER).trained_no_answer
    assert not registry.find(ZOO_READER).trained_no_answer
    for spec in registry.models():
        lengths = (spec.passage_tokens, spec.window_tokens, spec.question_tokens)
        assert lengths == ((384, 0, 32) if spec.task == "encode" else (0, 384, 64))
        assert len(spec.outputs) == (1 if spec.task == "encode" else 2)
        assert all((file.url is None) == (spec.source == "bundled") for file in spec.files)
        assert spec.form == "ir" or spec.source == "pull"


def test_zoo_files_are_as_published() -> None:
    large = registry.find("bert-large-uncased-whole-word-masking-squad-fp32-0001")
    assert large is registry.find("bert-large-uncased-whole-word-masking-squad-0001")
    weights = large.file("weights")
    assert weights.size == 1336377548
    assert weights.checksum.startswith("sha384:d42ef40059b6dd54c00436fc1ad790f0e9df6847")
    assert str(weights.url).endswith("/FP32/bert-large-uncased-whole-word-masking-squad-0001.bin")
    assert str(large.file("vocabulary").url).endswith("/bert-large-uncased-whole-word-masking-squad-0001/vocab.txt")
    assert large.published["squad_v1.1_dev_f1_percent"] == 93.21


def test_the_five_published_systems_and_the_further_zoo_models_are_there() -> None:
    """Task, published figures, size of the weights, cost and parameters, as their publishers give them."""
    small, large = "bert-small-uncased-whole-word-masking-squad", "bert-large-uncased-whole-word-masking-squad"
    wanted = {
        f"{small}-emb-int8-0001": ("encode", [87.6], 41732846, 23.9, 41.1),
        f"{small}-0001": ("read", [91.57, 85.04], 232298692, 23.9, 57.94),
        f"{large}-0001": ("read", [93.21, 87.2], 1336377548, 246.93, 333.96),
        SPARSE: ("read", [86.7, 79.04], None, None, None),
        CASED: ("read", [], None, 246.4, 336),
        f"{small}-int8-0002": ("read", [91.4, 84.4], 41207550, 23.9, 41.1),
        f"{large}-emb-0001": ("encode", [90.5], 1340567764, 246.93, 333.96),
        f"{large}-int8-0001": ("read", [92.6, 86.36], 366198058, 246.93, 333.96),
    }
    specs = {spec.name: spec for spec in registry.published()}
    assert wanted.keys() == specs.keys() - {settings.DEFAULT_ENCODER, settings.DEFAULT_READER}
    for name, (task, figures, size, gops, parameters) in wanted.items():
        spec = specs[name]
        assert (spec.task, spec.file("weights").size, spec.gops, spec.parameters_millions) == (
            task, size, gops, parameters
        )  # fmt: skip
        assert list(spec.published.values()) == figures
        assert spec.lower_case == (name != CASED)
        if spec.form == "ir":
            assert spec.file("vocabulary").checksum == VOCABULARY
            assert spec.licence == "Apache-2.0"


def test_hugging_face_systems_say_that_no_checksum_is_published() -> None:
    for name, alias, licence in ((SPARSE, f"madlag/{SPARSE}", "MIT"), (CASED, f"google-bert/{CASED}", "Apache-2.0")):
        spec = registry.find(alias)
        assert (spec.name, spec.form, spec.licence, spec.size) == (name, "huggingface", licence, None)
        assert [(file.size, file.checksum) for file in spec.files] == [(None, None)] * 4
        base = f"https://huggingface.co/{alias}/resolve/main/"
        assert [file.url for file in spec.files] == [
            base + file for file in ("config.json", "tokenizer_config.json", "vocab.txt", "model.safetensors")
        ]
        assert spec.file("weights").alternatives == ("pytorch_model.bin",)


# ---- imported and converted models ---------------------------------------------------------------------------------


def local_model(root: Path, name: str, **changes: object) -> registry.ModelSpec:
    """Write an imported model: the small reader's files under another name, and its entry beside them."""
    small = small_networks.reader_spec(root)
    (root / small.name).rename(root / name)
    spec = replace(small, name=name, source="local", **changes)  # type: ignore[arg-type]
    text = json.dumps(registry.entry_of(spec))
    (root / name / "model.json").write_text(text, encoding="utf-8")
    return spec


def test_entries_survive_json(tmp_path: Path) -> None:
    small = small_networks.reader_spec(tmp_path)
    for spec in (*registry.published(), replace(small, calibration=registry.Calibration(threshold=0.3))):
        assert registry.read_entry(json.loads(json.dumps(registry.entry_of(spec)))) == spec


def test_imported_models_are_found_beside_those_of_the_registry(tmp_path: Path) -> None:
    environment = {"ODQA_MODELS_DIR": str(tmp_path)}
    spec = local_model(tmp_path, "my-reader")
    (tmp_path / "no-model").mkdir()
    (tmp_path / ".converting" / "half").mkdir(parents=True)
    (tmp_path / ".converting" / "half" / "model.json").write_text("{", encoding="utf-8")
    assert registry.find("my-reader", environment=environment) == spec
    assert registry.models(environment=environment) == (*registry.published(), spec)
    assert registry.problems(environment=environment) == {}
    registry.verify(spec, environment=environment)
    assert registry.is_here(spec, environment=environment)
    with pytest.raises(UnknownModelError, match=r"'my-reader'"):
        registry.find("my-reader", environment={"ODQA_MODELS_DIR": str(tmp_path / "elsewhere")})
    (tmp_path / "my-reader" / "network.bin").unlink()
    with pytest.raises(DamagedModelError, match=r"lacks network\.bin; .*`odqa models remove my-reader`"):
        registry.verify(spec, environment=environment)


def test_an_imported_model_cannot_take_a_name_of_the_registry(tmp_path: Path) -> None:
    environment = {"ODQA_MODELS_DIR": str(tmp_path)}
    local_model(tmp_path, settings.DEFAULT_READER)
    assert registry.find(settings.DEFAULT_READER, environment=environment).source == "bundled"
    assert registry.models(environment=environment) == registry.published()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-1],
        lambda _: "[]",
        lambda text: text.replace("my-reader", "other-reader"),
        lambda text: text.replace('"local"', '"bundled"'),
        lambda text: text.replace("network.bin", "../network.bin"),
    ],
)
def test_a_damaged_entry_is_a_problem_of_that_model_only(tmp_path: Path, damage: Callable[[str], str]) -> None:
    environment = {"ODQA_MODELS_DIR": str(tmp_path)}
    local_model(tmp_path, "my-reader")
    path = tmp_path / "my-reader" / "model.json"
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    assert registry.models(environment=environment) == registry.published()
    assert registry.find(settings.DEFAULT_READER, environment=environment).source == "bundled"
    assert list(registry.problems(environment=environment)) == ["my-reader"]
    with pytest.raises(ModelError, match=r"my-reader/model\.json .*`odqa models remove my-reader`"):
        registry.find("my-reader", environment=environment)


def test_a_converted_model_keeps_what_is_published_of_it(tmp_path: Path) -> None:
    environment = {"ODQA_MODELS_DIR": str(tmp_path)}
    measured = {"int8_agreement_percent": 99.0}
    local = local_model(tmp_path, CASED, licence="unknown", lower_case=True, strip_accents=False, measured=measured)
    published, found = registry.find(CASED), registry.find(f"google-bert/{CASED}", environment=environment)
    assert published.form == "huggingface"
    assert found == replace(
        published, form="ir", files=local.files, inputs=local.inputs, outputs=local.outputs, architecture="table",
        strip_accents=False, measured=measured,
    )  # fmt: skip
    assert found.checksum == local.checksum
    registry.verify(found, environment=environment)


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(UnknownModelError, match=f"'gpt'.*{settings.DEFAULT_READER}"):
        registry.find("gpt")


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo, bundled = registry.find(ZOO_READER), registry.find(settings.DEFAULT_READER)
    chosen = {"ODQA_MODELS_DIR": str(tmp_path)}
    assert registry.folder(zoo, environment=chosen) == tmp_path / ZOO_READER
    assert registry.folder(bundled, environment=chosen) == Path(registry.__file__).parent / "bundled"
    monkeypatch.setattr(sys, "platform", "linux")
    assert registry.folder(zoo, environment={"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "odqa/models" / ZOO_READER
    home = Path.home()
    assert registry.folder(zoo, environment={"XDG_CACHE_HOME": "here"}) == home / ".cache/odqa/models" / ZOO_READER
    monkeypatch.setattr(sys, "platform", "darwin")
    assert registry.folder(zoo, environment={}) == home / "Library/Caches/odqa/models" / ZOO_READER
    monkeypatch.setattr(sys, "platform", "win32")
    assert registry.folder(zoo, environment={"LOCALAPPDATA": "/local"}) == Path("/local/odqa/Cache/models") / ZOO_READER
    assert registry.folder(zoo, environment={}) == home / "AppData/Local/odqa/Cache/models" / ZOO_READER


def test_a_model_that_was_not_pulled_says_how_to_get_it(tmp_path: Path) -> None:
    environment = {"ODQA_MODELS_DIR": str(tmp_path)}
    for name in (ZOO_READER, CASED):
        spec = registry.find(name, environment=environment)
        for check in (registry.need_here, registry.verify):
            with pytest.raises(MissingModelError, match=f"{name} has not been pulled: .*`odqa models pull {name}`"):
                check(spec, environment=environment)
        assert not registry.is_here(spec, environment=environment)
    with pytest.raises(MissingModelError, match=CASED):  # what it will be converted into is not known yet
        _ = registry.find(CASED, environment=environment).checksum


def test_missing_files_are_named_with_their_place(tmp_path: Path) -> None:
    spec = registry.find(ZOO_READER)
    place = tmp_path / ZOO_READER
    place.mkdir()
    (place / spec.files[0].name).write_bytes(b"x")
    with pytest.raises(DamagedModelError) as caught:
        registry.verify(spec, environment={"ODQA_MODELS_DIR": str(tmp_path)})
    assert not isinstance(caught.value, MissingModelError)
    assert str(place) in str(caught.value)
    assert f"lacks {spec.files[1].name}, {spec.files[2].name}" in str(caught.value)


@pytest.mark.parametrize("algorithm", ["sha256", "sha384"])
def test_verify_finds_every_damage(tmp_path: Path, algorithm: str) -> None:
    spec = small_networks.reader_spec(tmp_path)
    environment = {"ODQA_MODELS_DIR": str(tmp_path)}
    path = tmp_path / spec.name / "network.bin"
    data = path.read_bytes()
    checksum = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    spec = small_networks.with_file(spec, "weights", checksum=checksum, url="https://example.org/network.bin")
    registry.verify(spec, environment=environment)
    path.write_bytes(data[:-1])
    with pytest.raises(
        DamagedModelError, match=rf"network\.bin has {len(data) - 1} bytes instead of {len(data)}; .*models pull"
    ):
        registry.verify(spec, environment=environment)
    changed = bytes([data[0] ^ 1]) + data[1:]
    path.write_bytes(changed)
    found = hashlib.new(algorithm, changed).hexdigest()
    with pytest.raises(DamagedModelError, match=f"checksum {algorithm}:{found} instead of {checksum}; .*models pull"):
        registry.verify(spec, environment=environment)


def test_one_checksum_depends_on_every_file(tmp_path: Path) -> None:
    spec = small_networks.reader_spec(tmp_path)
    others = {small_networks.with_file(spec, f.role, checksum="sha256:" + "0" * 64).checksum for f in spec.files}
    assert len(others | {spec.checksum}) == 4
    assert replace(spec, files=spec.files[::-1]).checksum == spec.checksum


@pytest.mark.parametrize(
    "change",
    [
        {"checksum": "md5:00"},
        {"checksum": "sha256:" + "g" * 64},
        {"name": "../reader.bin"},
        {"name": ""},
        {"role": "script"},
        {"checksum": None},
        {"size": None},
        {"alternatives": ("../reader.bin",)},
    ],
)
def test_files_that_cannot_be_trusted_are_refused(tmp_path: Path, change: dict[str, str]) -> None:
    file = small_networks.reader_spec(tmp_path).files[0]
    with pytest.raises(ValueError, match=r"network\.xml|plain"):
        replace(file, **change)  # type: ignore[arg-type]


def test_entries_that_cannot_be_loaded_are_refused(tmp_path: Path) -> None:
    spec = small_networks.reader_spec(tmp_path)
    for change in ({"task": "chat"}, {"files": spec.files[:2]}, {"name": "a/b"}, {"source": "web"}, {"form": "onnx"}):
        with pytest.raises(ValueError, match=r"unknown|needs|plain"):
            replace(spec, **change)  # type: ignore[arg-type]
    with pytest.raises(FrozenInstanceError):
        spec.revision = "2"  # type: ignore[misc]
    with pytest.raises(TypeError):
        registry.models()[0].published["f1"] = 1.0  # type: ignore[index]


def test_a_damaged_registry_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "registry.json"
    entries = json.loads(registry.REGISTRY.read_text(encoding="utf-8"))
    assert registry.read_registry(registry.REGISTRY) == registry.published()
    for damaged in ("[", "[{}]", json.dumps([entries[0] | {"task": "chat"}]), json.dumps([entries[0], entries[0]])):
        path.write_text(damaged, encoding="utf-8")
        with pytest.raises(ModelError, match=r"registry\.json"):
            registry.read_registry(path)
    with pytest.raises(ModelError, match=r"none\.json"):
        registry.read_registry(tmp_path / "none.json")


def test_listing_models_imports_nothing_heavy() -> None:
    code = (
        "import sys; from odqa.models import registry; registry.models();"
        "print([m for m in ('numpy', 'openvino', 'tokenizers') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
