"""Lets tests in every folder import the modules that lie beside this file."""

from __future__ import annotations

import os
import tempfile

# Compiled networks go to a folder of this run: tests leave nothing in the user's cache. Processes inherit it.
_COMPILED = tempfile.TemporaryDirectory(prefix="odqa-compiled-")
os.environ["ODQA_COMPILED_DIR"] = _COMPILED.name
