"""Change a signed bundle at random many times: count what is accepted, what breaks, and the memory it takes.

python benchmarks/bundle_fuzz.py            # 10,000 bundles of each kind
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

from energylab.closed.verify import verify


def main() -> int:
    """Print one line a kind of change; fail if any changed bundle was accepted under its old signature."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="changed bundles of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    bundle, keys = builders.signed(builders.honest_run()), builders.enrolled()
    if not verify(bundle, keys=keys, official=builders.OFFICIAL).accepted:
        sys.exit("the honest bundle itself is refused: nothing can be told from changed ones")
    kinds = {
        "bytes changed": mutations.mutated_bytes,
        "statement changed, old signature": mutations.mutated_statement,
        "statement changed, signed again": lambda b, rng: mutations.mutated_and_signed(b, rng, builders.owner()),
    }
    wrong = 0
    print(f"{'kind':34}{'bundles':>9}{'accepted':>10}{'crashes':>9}{'ms each':>9}{'peak MB':>9}")
    for name, change in kinds.items():
        rng, refused = random.Random(options.seed), Counter()
        began_s, accepted, crashes = time.monotonic(), 0, 0
        for _ in range(options.count):
            try:
                verdict = verify(change(bundle, rng), keys=keys, official=builders.OFFICIAL)
            except Exception as error:  # noqa: BLE001 - a crash is what is looked for
                crashes += 1
                print(f"  crash: {type(error).__name__}: {str(error)[:200]}")
                continue
            accepted += verdict.accepted
            refused.update(check.name for check in verdict.failed[:1])
        each_ms = (time.monotonic() - began_s) / options.count * 1000
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{name:34}{options.count:9}{accepted:10}{crashes:9}{each_ms:9.1f}{peak_mb:9.0f}")
        print(f"  first refused by: {', '.join(f'{check} {count}' for check, count in refused.most_common())}")
        wrong += crashes + (accepted if "signed again" not in name else 0)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
