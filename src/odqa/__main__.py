"""The command `odqa`, and `python -m odqa`."""

from __future__ import annotations

import sys
from typing import NoReturn


def run() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    words = sys.argv[1:]
    if words[:1] == ["query"] and "--help" not in words:
        _load_ahead()
    from odqa.cli import run as run_command

    run_command()


def _load_ahead() -> None:
    """Let the models that a question most likely needs load while everything else is imported."""
    from odqa import settings
    from odqa.models import ahead

    ahead.begin([settings.encoder_name(None) or settings.DEFAULT_ENCODER, settings.reader_name(None)])


if __name__ == "__main__":
    run()
