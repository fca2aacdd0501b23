"""The page of all parameters of one session, from the model that checks them."""

from __future__ import annotations

from energylab.parameters import NOT_IDENTITY, Parameters
from pagegen import types
from pagegen.markdown import code, page, table


def pages() -> dict[str, str]:
    """Return the page of parameters."""
    rows = [
        (f'<a id="{name}"></a>{code(name)}', _meaning(name, field), _kind(field), code(types.default(field)))
        for name, field in Parameters.model_fields.items()
    ]
    return {
        "parameters.md": page(
            "# Parameters",
            "What one session can be told: by `papermill … -p NAME VALUE` in `notebooks/01-benchmark.ipynb`, by "
            "`energylab.measure(NAME=VALUE)`, and by a study's `parameters` and `sweeps`. This page is made from the "
            "model that checks them. An unknown name, a wrong type or a value that is not allowed ends a session "
            "before anything is loaded.",
            "`None` means: as the task's file says (see [Tasks](tasks/index.md)). The defaults make a smoke run of "
            "seconds on any CPU; the published protocol is `samples=1000`, `runs=10`, `window_s=10` on hub weights "
            "and hub data. Parameters marked *not identity* say where or how often a job runs: two jobs that differ "
            "in them alone are the same job.",
            table(("parameter", "meaning", "values", "default"), rows),
        )
    }


def _kind(field) -> str:
    return ", ".join(part for part in (types.words(field.annotation), types.limits(field)) if part)


def _meaning(name: str, field) -> str:
    return (field.description or "") + (" *(not identity)*" if name in NOT_IDENTITY else "")
