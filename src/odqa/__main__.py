"""Where the command `odqa`, and `python -m odqa`, begins and ends."""

import gc
import os
import sys
from typing import NoReturn

# Importing makes many objects and hardly any garbage. Looking for it after every 700 new ones, as Python does, takes
# 5 to 15 % of a short command's time.
_OBJECTS_PER_COLLECTION = 50_000

# OpenVINO imports its converter of other formats, which odqa has no use for, and that imports its telemetry: more than
# half of the time of the import. It does without where they are not installed.
_CONVERTER = "openvino.tools.ovc"


def run() -> NoReturn:
    """Run the command line and end the process with its exit code, at once.

    Everything is written and closed by then. What an interpreter does at its end, freeing the networks piece by piece,
    would take a fifth of a second of every question.
    """
    gc.set_threshold(_OBJECTS_PER_COLLECTION)
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # as if it were not installed, in this process
    from odqa.cli import main

    os._exit(main())


if __name__ == "__main__":
    run()
