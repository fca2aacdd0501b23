"""What a job still needs, and what is tried again."""

from __future__ import annotations

from energylab.studies.folder import JobState, Kind

#: How often a job is tried again in one run when the machine failed it, not the notebook.
RETRIES = 2

#: Ends that are the machine's or the user's doing: the job is taken up again.
RESUMABLE = ("interrupted", "infrastructure")


def due(state: JobState, again: tuple[str, ...] = ()) -> Kind | None:
    """Say what a job still needs: to be measured, only to be rendered, or nothing.

    Parameters
    ----------
    state : JobState
        What its files say.
    again : tuple of str
        ``failed`` and ``invalid``: states that the user asks to try once more.

    Returns
    -------
    "measure", "render" or None
        An error in a cell is not repeated unasked: it would come again.
    """
    if state.status == "measured":
        gave_up = state.last_kind == "render" and state.last is not None and state.last.end not in RESUMABLE
        return None if gave_up and "failed" not in again else "render"
    if state.status == "left":
        return "measure"
    if state.status == "failed" and state.last is not None and state.last.end == "kernel_died":
        return "measure"
    return "measure" if state.status in again else None
