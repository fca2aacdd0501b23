"""Change a signed bundle at random many times: what is accepted, what breaks, and the memory it takes.

python benchmarks/bundle_fuzz.py            # 10,000 bundles
python benchmarks/bundle_fuzz.py --count 500
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "fakes")]

import closed_builders as builders  # noqa: I001
import mutations

from energylab import energy
from energylab_portal.sealed.verify import verify

KINDS = {
    "bytes changed": mutations.mutated_bytes,
    "statement changed, old signature": mutations.mutated_statement,
    "statement changed, signed again": lambda b, rng: mutations.mutated_and_signed(b, rng, builders.owner()),
}
#: How far a rated figure of an accepted bundle may move: one reading among many, within a sensor's tolerance.
TOLERANCE = 0.05
#: An owner's changes that move the figure and that nothing can tell: see "not caught" in sealed.md.
NOT_CAUGHT = ("windows.[].replications",)


def rated(record) -> tuple[float | None, str | None]:
    """Return what a board would show: energy and size class."""
    return energy.session_energy_j(record), record.model.model_class


def main() -> int:
    """Print one line a kind of change; fail where a rated figure changed, or something broke."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="changed bundles of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    bundle, keys = builders.signed(builders.honest_run()), builders.enrolled()
    honest = verify(bundle, keys=keys, official=builders.OFFICIAL)
    if not honest.accepted:
        sys.exit("the honest bundle itself is refused: nothing can be told from changed ones")
    energy_j, size_class = rated(honest.record)
    wrong, fields, moved = 0, Counter(), Counter()
    print(f"{'kind':34}{'bundles':>9}{'accepted':>10}{'moved':>7}{'crashes':>9}{'ms each':>9}{'peak MB':>9}")
    for name, change in KINDS.items():
        rng, began_s = random.Random(options.seed), time.monotonic()
        accepted = crashes = far = 0
        count = options.count // len(KINDS)
        for _ in range(count):
            try:
                made = change(bundle, rng)
                verdict = verify(made, keys=keys, official=builders.OFFICIAL)
            except Exception as error:  # noqa: BLE001 - a crash is what is looked for
                crashes += 1
                print(f"  crash: {type(error).__name__}: {str(error)[:200]}")
                continue
            if not verdict.accepted:
                continue
            accepted += 1
            changed = mutations.changed_fields(bundle, made)
            fields.update(changed)
            now_j, now_class = rated(verdict.record)
            if abs(now_j / energy_j - 1) > TOLERANCE or now_class != size_class:
                moved.update(changed)
                far += not any(one.startswith(NOT_CAUGHT) for one in changed)
        each_ms = (time.monotonic() - began_s) / count * 1000
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{name:34}{count:9}{accepted:10}{far:7}{crashes:9}{each_ms:9.1f}{peak_mb:9.0f}", flush=True)
        wrong += crashes + far + (accepted if "signed again" not in name else 0)
    print("\nfields in which an owner's change passed:")
    print("  " + ", ".join(f"{name} {count}" for name, count in sorted(fields.items())))
    print("fields in which one passed that moved a rated figure:")
    print("  " + (", ".join(f"{name} {count}" for name, count in sorted(moved.items())) or "none"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
