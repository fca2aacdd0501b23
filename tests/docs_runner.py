"""Runs the Python blocks of the documentation in one process, each in a namespace of its own.

    python tests/docs_runner.py FOLDER < blocks.json > results.json

Blocks come as ``[{"name": …, "code": …}]``; a result is ``{"name": …, "error": null or the traceback, "seconds": …}``.
What blocks print goes to the standard error stream.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import traceback

import matplotlib

matplotlib.use("Agg")


def run(name: str, code: str) -> dict[str, object]:
    """Run one block, and say how it ended."""
    started = time.perf_counter()
    error = None
    try:
        with contextlib.redirect_stdout(sys.stderr):
            exec(compile(code, name, "exec"), {"__name__": "__main__"})
    except Exception:  # noqa: BLE001 - handed to the test of this block
        error = traceback.format_exc()
    return {"name": name, "error": error, "seconds": time.perf_counter() - started}


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    json.dump([run(**block) for block in json.load(sys.stdin)], sys.stdout)
