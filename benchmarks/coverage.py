"""How often intervals hold what they promise: coverage by simulation, and the honest figure where they do not.

Run ``python benchmarks/coverage.py`` (a few minutes on one core), or with ``--count 1000`` for a quick look and
``--only total`` for the rows whose name contains a word. Every row has its own seed, fixed beforehand. A row that
promises coverage must have its Wilson interval inside 93.5-96.5 % (expanded ones may cover more; anytime-valid ones
must be at or above 95 %); otherwise the command ends with status 1. The other rows show what happens when a
condition does not hold, and cannot fail.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time

from coverage_rows import ROWS

for module in ("means", "totals", "components", "anytime", "cohorts"):  # importing one registers its rows
    importlib.import_module(f"coverage_rows.{module}")


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="simulations a row (default 10000)")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args(arguments)
    print(f"95 % intervals, {options.count} simulations a row; coverage with its 95 % Wilson interval\n")
    print(f"{'coverage':>8}  {'Wilson interval':<15}  {'promise':<13}  method: condition")
    began, broken = time.perf_counter(), []
    for entry in ROWS:
        if options.only not in entry.name:
            continue
        result = entry.run(options.count)
        verdict = {True: "kept", False: "BROKEN", None: "none made"}[result.kept]
        broken += [entry.name] if result.kept is False else []
        wilson = f"{100 * result.low:.2f}-{100 * result.high:.2f} %"
        print(f"{100 * result.coverage:6.2f} %  {wilson:<15}  {verdict:<13}  {entry.name}", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s; broken promises: {len(broken)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
