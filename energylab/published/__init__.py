"""Published tables as data, each with its source, for comparison with your own measurements."""

from __future__ import annotations

import importlib.resources
from typing import TYPE_CHECKING, Any

from energylab.energy import J_PER_WH
from energylab.errors import unknown_name

if TYPE_CHECKING:
    import pandas as pd

_NAMES = ("2025-02", "2025-12")

#: Shown if `beside` has no rows.
NOTHING_BESIDE = (
    "`results/reference` holds no record of a published model. Measure one (`notebooks/01-benchmark.ipynb`, or the "
    "study `params/studies/published-2025-02.yaml`) and name its folder in `results`."
)


def names() -> list[str]:
    """Return the dates of the published tables in this package, oldest first."""
    return list(_NAMES)


def source(name: str = "2025-02") -> dict[str, Any]:
    """Return the source of the published table of a date and the meaning of its figures."""
    import yaml

    return yaml.safe_load(_resource(name, ".yaml").read_text(encoding="utf-8"))


def source_in_words(name: str = "2025-02") -> str:
    """Return `source` as Markdown, for a page that shows the table."""
    facts = source(name)
    conditions = f"{facts['queries']:,} queries, batch size {facts['batch_size']}, {facts['device']}"
    lines = [f"**{facts['title']}** ({facts['origin']}; method: {facts['method']}). {conditions}."]
    for heading, items in (("Not published", facts["not_published"]), ("Peculiar", facts["peculiarities"])):
        lines += ["", f"{heading}:", *(f"- {item}" for item in items)]
    return "\n".join(lines)


def load(name: str = "2025-02") -> pd.DataFrame:
    """Return the published table of a date as a tidy table, ready for `energylab.rate`.

    Returns
    -------
    pandas.DataFrame
        One row per published entry, in published order, with the columns of `energylab.read` that the source states
        (``energy_j`` for ``queries`` = 1,000 queries) and four more: ``hub_id``, ``energy_wh`` (Wh per 1,000
        queries, as published), ``published_stars`` (Int64, missing if not published) and ``first_release``. A model
        that is listed twice has two entries, the second named ``MODEL (entry 2)``.

    Raises
    ------
    UnknownNameError
        If there is no table of that date; see `names`.
    """
    import pandas as pd

    facts = source(name)
    with _resource(name, ".csv").open(encoding="utf-8") as file:
        raw = pd.read_csv(file, keep_default_na=False, na_values=[""])
    hub_id = raw["hub_id"] if "hub_id" in raw else raw["model"].where(raw["task"] != "image_captioning")
    first = raw["first_release"] if "first_release" in raw else pd.Series(name, index=raw.index)
    model = hub_id.fillna(raw["model"])
    entry = raw.assign(model=model).groupby(["task", "model_class", "model"], dropna=False).cumcount() + 1
    carried = first == _NAMES[0]  # by the first version of the method, under the conditions of the first table
    several_gpus = (raw["model_class"] == "C") | (raw["task"] == "reasoning")
    stars = raw["published_stars"] if "published_stars" in raw else pd.Series(pd.NA, index=raw.index)
    return pd.DataFrame(
        {
            "task": raw["task"],
            "task_version": pd.Series(facts["task_version"], index=raw.index, dtype="string").where(carried),
            "model": model.where(entry == 1, model + " (entry " + entry.astype(str) + ")"),
            "model_class": raw["model_class"].astype("string"),
            "model_source": "hub",
            "data_source": "hub",
            "phase": "total",
            "scored": True,
            "run": 0,
            "queries": facts["queries"],
            "energy_j": raw["gpu_wh_per_1000_queries"] * J_PER_WH,
            "energy_kind": facts["energy_kind"],
            "device": facts["device"],
            "gpus": pd.Series(1, index=raw.index, dtype="Int64").mask(several_gpus),
            "session": [f"published-{name}/{row}" for row in range(1, len(raw) + 1)],
            "dtype": raw["task"].map(facts["dtype"]).fillna(facts["dtype"]["other"]).where(carried),
            "batch_size": facts["batch_size"],
            "valid": True,
            "reasons": "",
            "cohort": f"published-{name}",
            "hub_id": hub_id,
            "energy_wh": raw["gpu_wh_per_1000_queries"],
            "published_stars": stars.astype("Int64"),
            "first_release": first,
        }
    )


def _resource(name: str, suffix: str) -> Any:
    if name not in _NAMES:
        raise unknown_name("published table", name, _NAMES)
    return importlib.resources.files(__name__).joinpath(f"ai_energy_score_{name}{suffix}")


def deviations() -> pd.DataFrame:
    """Return the deviations from the published work, from the tasks' files: task, models, what, why."""
    import pandas as pd
    import yaml

    from energylab.paths import params_root

    files = sorted((params_root() / "tasks").glob("*.yaml"))
    rows = [
        {**each, "task": file.stem.replace("_", " "), "models": ", ".join(each.get("models", ["all"]))}
        for file in files
        for each in yaml.safe_load(file.read_text(encoding="utf-8")).get("deviations", [])
    ]
    return pd.DataFrame(rows, columns=["task", "models", "what", "why"]).set_index("task")


def agreement(stars: pd.DataFrame, name: str = "2025-02") -> pd.DataFrame:
    """Compare derived stars, ``energylab.rate(published.load(name))``, with the published ones.

    Returns
    -------
    pandas.DataFrame
        One row per task and size class, and a last row for all: ``task, model_class, models, published`` (models with
        a published star), ``equal`` (number of these with the same derived star), ``first`` (models without a
        published star).
    """
    import pandas as pd

    keys = ["task", "model_class"]
    published = load(name)[[*keys, "model", "published_stars"]]
    both = stars.merge(published, on=[*keys, "model"], validate="one_to_one")
    starred = both["published_stars"].notna()
    equal, first = (both["stars"] == both["published_stars"]).fillna(False), ~starred & both["stars"].notna()
    counted = both[keys].assign(models=1, published=starred * 1, equal=equal * 1, first=first * 1)
    table = counted.groupby(keys, dropna=False, as_index=False).sum()
    total = table.drop(columns=keys).sum()
    return pd.concat([table, pd.DataFrame([{"task": "all", "model_class": pd.NA, **total}])], ignore_index=True)


def beside(stars: pd.DataFrame, name: str = "2025-02") -> pd.DataFrame:
    """Compare your own figures, from `energylab.rate`, with the published ones of the same models.

    Returns
    -------
    pandas.DataFrame
        One row per own figure whose task and model are published: ``task, model, published_wh, own_wh,
        expanded_low, expanded_high, ratio`` (own by published), ``energy_kind, cohort``; may be empty. Models are
        matched by hub id, or by its part after the owner, which is the name of an architecture with random weights
        (its cohort states that).
    """
    published = load(name).dropna(subset=["hub_id"])
    published = published.assign(key=_bare(published["hub_id"]), published_wh=published["energy_wh"])
    own = stars.assign(key=_bare(stars["model"]), own_wh=stars["energy_wh"]).dropna(subset=["own_wh"])
    both = own.merge(published[["task", "key", "hub_id", "published_wh"]], on=["task", "key"])
    owned = both["model"].astype(str).str.contains("/")
    both = both[~owned | (both["model"] == both["hub_id"])]
    both = both.assign(ratio=both["own_wh"] / both["published_wh"]).reset_index(drop=True)
    columns = ["task", "model", "published_wh", "own_wh", "expanded_low", "expanded_high", "ratio"]
    return both[[*columns, "energy_kind", "cohort"]]


def _bare(models: pd.Series) -> pd.Series:
    return models.astype("string").str.rpartition("/")[2].str.lower()


def own_records(results: str = "") -> pd.DataFrame:
    """Return the table of `results`, or by default of the project's ``results/reference``; it may be empty."""
    from energylab.paths import params_root
    from energylab.store import read

    folder = params_root().parent / "results" / "reference"
    return read(results or folder) if results or folder.is_dir() else load().iloc[:0]
