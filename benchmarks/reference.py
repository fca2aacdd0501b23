"""Set the reference records beside the published figures of the same models: Wh per 1,000 queries, ratio, order.

    python benchmarks/reference.py [FOLDER]

FOLDER holds records of ``params/studies/reference.yaml`` (default: ``results/reference``). Without records it says so
and exits 0.
"""

from __future__ import annotations

import sys

import energylab
from energylab import published
from energylab.errors import EnergylabError


def main(folder: str = "") -> None:
    """Print the table and the rank correlation."""
    own = published.own_records(folder)
    if not len(own):
        print(published.NOTHING_BESIDE)
        return
    beside = published.beside(energylab.rate(own)).sort_values(["task", "published_wh"])
    print(beside.drop(columns="cohort").to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    print(f"\nenergy kind: {', '.join(sorted(set(beside['energy_kind'])))}; published: measured on one H100 80 GB")
    ranks = beside.groupby("task")[["published_wh", "own_wh"]].rank(pct=True)
    centred = ranks - ranks.groupby(beside["task"]).transform("mean")  # a spread between tasks feigns no agreement
    print(f"rank correlation, pooled within tasks: {centred.corr().iloc[0, 1]:.2f}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:2])
    except EnergylabError as error:
        sys.exit(f"error: {error}")
