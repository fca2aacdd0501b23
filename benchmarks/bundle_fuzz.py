"""Change a signed bundle at random many times: count what is accepted, what breaks, and the memory it takes.

python benchmarks/bundle_fuzz.py            # 10,000 bundles of each kind
python benchmarks/bundle_fuzz.py --count 500
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "fakes")]

import closed_builders as builders  # noqa: I001
import mutations

from energylab_portal.sealed.verify import verify


#: Fields in which an owner's change passes, by the beginning of their names, and why it may.
MAY_CHANGE = {
    "nothing is changed": ("the same value",),
    "what is committed to is not known until it is opened": ("commitments.",),
    "a fact of machine or software that nothing here can look at": (
        "record.host", "record.energylab_version", "image.docker", "image.environment_digest", "record.schema_version",
        "record.devices.[].clock_policy", "record.devices.[].driver", "record.devices.[].ecc",
        "record.devices.[].index", "record.devices.[].memory_bytes", "record.devices.[].power_limit_default_w",
        "record.devices.[].settings.",
    ),
    "a name: of the model, as its owner chooses; of a board whose speed is then said to be unknown": (
        "record.model.name", "record.devices.[].name",
    ),
    "a fact of a model that only its owner sees": (
        "record.model.architecture", "record.model.attention", "record.model.commit", "record.model.quantisation",
        "record.model.real_weights", "record.model.revision", "record.model.trust_remote_code", "weights.",
    ),
    "a score": ("record.quality",),
    "a note, or an id that follows from the rest": (
        "record.extra", "record.job_id", "record.record_id", "run_id", "record.warm_up.reason", "record.warm_up.steady",
        "record.data.commit", "record.data.revision", "record.meters.[].source", "record.meters.[].gain_error",
        "record.meters.[].read_cost_s", "record.task.overridden", "record.windows.[].meters.[].ticks",
    ),
    "a parameter that this run does not use, or its default, stated": (
        "record.parameters.batch_size", "record.parameters.cpu_core_w", "record.parameters.diffusion_steps",
        "record.parameters.meter", "record.parameters.attention", "record.parameters.quantisation",
        "record.parameters.dtype", "record.parameters.new_tokens", "record.parameters.seed",
        "record.protocol.settings",
    ),
    "within what is allowed: a token a query, a tenth of rest, a repetition that the window's length holds": (
        "record.data.covariates", "record.idle.[].", "record.model.parameters", "record.model.weights_bytes",
        "record.warm_up.", "record.windows.[].replications", "record.meters.[].update_period_s",
        "record.windows.[].meters.[].max_power_w", "record.devices.[].power_limit_w", "started_utc", "finished_utc",
    ),
    "one sample or state among many, as a device may say": (
        "record.windows.[].states.[].", "timelines.[].samples.[].", "timelines.[].samples", "timelines.[].period_s",
    ),
    "a tighter seal, or the same": ("seal.",),
}  # fmt: skip


def main() -> int:
    """Print one line a kind of change; fail if any changed bundle was accepted under its old signature.

    Those signed again by their owner are listed by the fields changed; one that is not known to be harmless fails too.
    """
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
    wrong, fields = 0, Counter()
    print(f"{'kind':34}{'bundles':>9}{'accepted':>10}{'crashes':>9}{'ms each':>9}{'peak MB':>9}")
    for name, change in kinds.items():
        rng, refused = random.Random(options.seed), Counter()
        began_s, accepted, crashes = time.monotonic(), 0, 0
        for _ in range(options.count):
            try:
                made = change(bundle, rng)
                verdict = verify(made, keys=keys, official=builders.OFFICIAL)
            except Exception as error:  # noqa: BLE001 - a crash is what is looked for
                crashes += 1
                print(f"  crash: {type(error).__name__}: {str(error)[:200]}")
                continue
            accepted += verdict.accepted
            if verdict.accepted and "signed again" in name:
                fields.update(mutations.changed_fields(bundle, made) or {"the same value, written otherwise"})
            refused.update(check.name for check in verdict.failed[:1])
        each_ms = (time.monotonic() - began_s) / options.count * 1000
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{name:34}{options.count:9}{accepted:10}{crashes:9}{each_ms:9.1f}{peak_mb:9.0f}")
        print(f"  first refused by: {', '.join(f'{check} {count}' for check, count in refused.most_common())}")
        wrong += crashes + (accepted if "signed again" not in name else 0)
    return 1 if wrong + _unknown(fields) else 0


def _unknown(fields: Counter) -> int:
    """Print in which fields a change passed that was signed again, by why it may; return how many are not known."""
    left = dict(fields)
    print("\nfields changed in the accepted bundles that were signed again, and why a change may pass:")
    for why, known in MAY_CHANGE.items():
        mine = {name: left.pop(name) for name in list(left) if name.startswith(known)}
        if mine:
            print(f"{why} ({sum(mine.values())})")
            print(textwrap.fill(", ".join(f"{name} {count}" for name, count in sorted(mine.items())),
                                118, initial_indent="  ", subsequent_indent="  "))  # fmt: skip
    for name, count in sorted(left.items()):
        print(f"NOT KNOWN: {name} {count}")
    return len(left)


if __name__ == "__main__":
    sys.exit(main())
