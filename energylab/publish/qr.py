"""A QR code as one SVG path."""

from __future__ import annotations

from itertools import groupby


def path(text: str) -> tuple[str, int]:
    """Return the dark modules of a QR code (error correction M) for `text`.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        An SVG path with one unit a module: a one-unit-high rectangle for each run of dark modules. The quiet zone is
        not in it.
    int
        Modules on a side.
    """
    import segno

    matrix = segno.make(text, error="m", micro=False).matrix
    parts = []
    for y, row in enumerate(matrix):
        x = 0
        for dark, run in groupby(row):
            length = len(list(run))
            if dark:
                parts.append(f"M{x} {y}h{length}v1h-{length}z")
            x += length
    return "".join(parts), len(matrix)
