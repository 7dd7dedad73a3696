from pathlib import Path

import pytest
from cli_cases import Fake, Run

from odqa import cli, pipeline


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    for name in ("ODQA_DEBUG", "ODQA_INDEX_DIR", "ODQA_ENCODER", "ODQA_READER", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ODQA_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main(words)
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    one = Fake()

    def opened(index_dir: Path, **options: object) -> Fake:
        one.asked.append(("open", index_dir, {name: value for name, value in options.items() if value}))
        return one

    monkeypatch.setattr(pipeline, "open", opened)
    return one
