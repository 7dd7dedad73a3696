"""Lets tests in every folder import the modules that lie beside this file."""

from __future__ import annotations

import os
import tempfile

from hypothesis import HealthCheck, settings

# Compiled networks go to a folder of this run: tests leave nothing in the user's cache. Processes inherit it.
_COMPILED = tempfile.TemporaryDirectory(prefix="odqa-compiled-")
os.environ["ODQA_COMPILED_DIR"] = _COMPILED.name

# A busy machine is no failure: how long an example takes is nothing that these tests are about.
settings.register_profile("odqa", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("odqa")
