"""Published tables as data, each with its source: what a measurement of one's own is set beside."""

from __future__ import annotations

import importlib.resources
from typing import TYPE_CHECKING, Any

from energylab.errors import unknown_name

if TYPE_CHECKING:
    import pandas as pd

_JOULES_PER_WH = 3600.0
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
            "energy_j": raw["gpu_wh_per_1000_queries"] * _JOULES_PER_WH,
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


def _resource(name: str, suffix: str) -> Any:
    if name not in _FILES:
        raise unknown_name("published study", name, _FILES)
    return importlib.resources.files(__name__).joinpath(_FILES[name] + suffix)
