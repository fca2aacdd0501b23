"""Published tables as data, each with its source: what a measurement of one's own is set beside."""

from __future__ import annotations

import importlib.resources
from typing import TYPE_CHECKING, Any

from energylab.energy import J_PER_WH
from energylab.errors import unknown_name

if TYPE_CHECKING:
    import pandas as pd


_FILES = {"2025-02": "ai_energy_score_2025-02"}


def names() -> list[str]:
    """Return the dates of the published studies that are shipped."""
    return sorted(_FILES)


def source(name: str = "2025-02") -> dict[str, Any]:
    """Return where a published table comes from and what its figures mean.

    Parameters
    ----------
    name : str, default "2025-02"
        Date of the study; see `names`.

    Returns
    -------
    dict
        Title, origin, conditions, known peculiarities and what is missing, as written beside the table.

    Raises
    ------
    UnknownNameError
        If no study of that name is shipped.
    """
    import yaml

    return yaml.safe_load(_resource(name, ".yaml").read_text(encoding="utf-8"))


def source_in_words(name: str = "2025-02") -> str:
    """Return `source` as Markdown, for a page that shows the table."""
    facts = source(name)
    conditions = (
        f"{facts['queries']:,} queries, mean of {facts['runs']} runs, batch size {facts['batch_size']}, "
        f"{facts['device']} (several for class C)"
    )
    lines = [
        f"**{facts['title']}** ({facts['origin']}; method: {facts['method']}). {conditions}.",
        "",
        "Not published:",
    ]
    lines += [f"- {item}" for item in facts["not_published"]]
    lines += ["", "Peculiar:"]
    lines += [f"- {item}" for item in facts["peculiarities"]]
    return "\n".join(lines)


def load(name: str = "2025-02") -> pd.DataFrame:
    """Return a published study as a tidy table, ready for `energylab.rate`.

    Parameters
    ----------
    name : str, default "2025-02"
        Date of the study; see `names`.

    Returns
    -------
    pandas.DataFrame
        One row per published entry, in published order, with the columns of `energylab.read` that the source
        answers (``energy_j`` for ``queries`` = 1,000 queries) and three more: ``hub_id``, ``energy_wh`` (Wh
        per 1,000 queries, as published) and ``published_stars`` (Int64, missing where none was to be had). A
        model that is listed twice keeps two entries, the later ones named ``MODEL (entry 2)``.

    Raises
    ------
    UnknownNameError
        If no study of that name is shipped.
    """
    import pandas as pd

    facts = source(name)
    with _resource(name, ".csv").open(encoding="utf-8") as file:
        raw = pd.read_csv(file, dtype={"published_stars": "Int64"}, keep_default_na=False, na_values=[""])
    entry = raw.groupby(["task", "model_class", "model"], dropna=False).cumcount() + 1
    several_gpus = raw["model_class"] == "C"
    return pd.DataFrame(
        {
            "task": raw["task"],
            "task_version": facts["task_version"],
            "model": raw["model"].where(entry == 1, raw["model"] + " (entry " + entry.astype(str) + ")"),
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
            "dtype": raw["task"].map(facts["dtype"]).fillna(facts["dtype"]["other"]),
            "batch_size": facts["batch_size"],
            "valid": True,
            "reasons": "",
            "cohort": f"published-{name}",
            "hub_id": raw["model"].where(raw["task"] != "image_captioning"),
            "energy_wh": raw["gpu_wh_per_1000_queries"],
            "published_stars": raw["published_stars"],
        }
    )


def agreement(stars: pd.DataFrame, name: str = "2025-02") -> pd.DataFrame:
    """Set re-derived stars beside the published ones.

    Parameters
    ----------
    stars : pandas.DataFrame
        ``energylab.rate(published.load(name))``.
    name : str, default "2025-02"
        Date of the study.

    Returns
    -------
    pandas.DataFrame
        One row per task and model class, and a last one for all: ``task, model_class, models, published`` (models
        with a published star), ``equal`` (of these, re-derived alike), ``first`` (models rated here for the first
        time).
    """
    import pandas as pd

    both = stars.merge(load(name)[["task", "model", "published_stars"]], on=["task", "model"], validate="one_to_one")
    published = both["published_stars"].notna()
    counted = both[["task", "model_class"]].assign(
        models=1,
        published=published.astype(int),
        equal=(published & (both["stars"] == both["published_stars"])).fillna(False).astype(int),
        first=(~published & both["stars"].notna()).astype(int),
    )
    table = counted.groupby(["task", "model_class"], dropna=False, as_index=False).sum()
    total = table[["models", "published", "equal", "first"]].sum()
    return pd.concat([table, pd.DataFrame([{"task": "all", "model_class": pd.NA, **total}])], ignore_index=True)


def beside(stars: pd.DataFrame, name: str = "2025-02") -> pd.DataFrame:
    """Set one's own figures beside the published ones, where both exist.

    Parameters
    ----------
    stars : pandas.DataFrame
        From `energylab.rate`, of any cohorts.
    name : str, default "2025-02"
        Date of the study.

    Returns
    -------
    pandas.DataFrame
        One row per own figure whose task and model are published: ``task, model, published_wh, own_wh,
        expanded_low, expanded_high, ratio`` (own by published), ``energy_kind, cohort``. A model is the same
        when its hub id is, or the part of it after the owner: a random-weights stand-in of an architecture is
        named like that, and its cohort says that it is one. Empty when there is none.
    """
    published = load(name)
    published = published.assign(key=_bare(published["hub_id"])).dropna(subset=["hub_id"])
    own = stars.assign(key=_bare(stars["model"])).drop(columns=["model_class"])
    both = own.merge(published[["task", "key", "hub_id", "energy_wh"]], on=["task", "key"], suffixes=("", "_published"))
    owned = both["model"].astype(str).str.contains("/")
    both = both[~owned | (both["model"] == both["hub_id"])].dropna(subset=["energy_wh"])
    both = both.rename(columns={"energy_wh_published": "published_wh", "energy_wh": "own_wh"})
    both["ratio"] = both["own_wh"] / both["published_wh"]
    columns = ["task", "model", "published_wh", "own_wh", "expanded_low", "expanded_high", "ratio"]
    return both[[*columns, "energy_kind", "cohort"]].reset_index(drop=True)


#: What `beside` has to say when there is nothing.
NOTHING_BESIDE = (
    "No record of a published model here yet: `results/reference` holds none. Measure one "
    "(`notebooks/01-benchmark.ipynb`, or the study `params/studies/published-2025-02.yaml`) and name its folder in "
    "`results`."
)


def own_records(results: str = "") -> pd.DataFrame:
    """Return one's own tidy table: of `results`, or of the repository's ``results/reference`` where there is one.

    Parameters
    ----------
    results : str, default ""
        Folder of records or CSV; empty: ``results/reference`` beside ``params/``.

    Returns
    -------
    pandas.DataFrame
        As `energylab.read`; empty when `results` is not named and there are no reference records.

    Raises
    ------
    RecordError
        If `results` is named and does not exist.
    """
    from energylab.paths import params_root
    from energylab.store import read

    folder = params_root().parent / "results" / "reference"
    if results or folder.is_dir():
        return read(results or folder)
    return load().iloc[:0]


def _bare(models: pd.Series) -> pd.Series:
    return models.astype("string").str.rpartition("/")[2].str.lower()


def _resource(name: str, suffix: str) -> Any:
    if name not in _FILES:
        raise unknown_name("published study", name, _FILES)
    return importlib.resources.files(__name__).joinpath(_FILES[name] + suffix)
