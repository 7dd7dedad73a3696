"""The command as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_help_is_quick() -> None:
    code = (
        "import sys\nfrom odqa.cli import main\nmain(['query', '--help']); main(['models', 'list', '--json'])\n"
        "print(*[n for n in ('faiss', 'numpy', 'openvino', 'sqlalchemy', 'tokenizers') if n in sys.modules], 'loaded')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: odqa query")
    assert done.stdout.splitlines()[-1] == "loaded"


def test_closed_pipe_ends_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "odqa", "models", "list"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with (tmp_path / "out").open("rb") as unwritable:
        command = [sys.executable, "-m", "odqa", "models", "list", "--json"]
        done = subprocess.run(command, stdout=unwritable, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("odqa: unexpected OSError: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_closed_streams_do_no_harm(closed: int) -> None:
    code = f"import os, sys\nos.close({closed})\nos.execv(sys.executable, [sys.executable, '-m', 'odqa', '--version'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("odqa ") or closed == 1


def test_json_is_utf_8_whatever_the_locale_says(tmp_path: Path) -> None:
    code = "from odqa import cli\ncli.print_json({'a': 'Łódź'})\nimport sys\nsys.exit(cli.main(['index', 'Łódź']))"
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, env=environment, cwd=tmp_path)
    assert done.stdout == '{"a": "Łódź"}\n'.encode()
    assert done.stderr.startswith(b"odqa: \\u0141\\xf3d\\u017a: does not exist")
    assert done.returncode == 1
