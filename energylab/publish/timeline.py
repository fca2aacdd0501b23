"""A session's windows over time, as the numbers of a small drawing."""

from __future__ import annotations

from dataclasses import dataclass

from energylab.release import SessionFacts, WindowPoint

WIDTH = 1000.0
HEIGHT = 60.0
_LEAST = 1.5  # narrowest bar that can be seen


@dataclass(frozen=True)
class Strip:
    """One session's windows: bars of mean power over time.

    Attributes
    ----------
    session : SessionFacts
    seconds : float
        From the first window's start to the last one's end.
    most_w : float
        Largest mean power, the height of the drawing.
    bars : list of (x, y, width, height, css class, title)
        In a drawing of `WIDTH` by `HEIGHT`.
    """

    session: SessionFacts
    seconds: float
    most_w: float
    bars: list[tuple[float, float, float, float, str, str]]


def timed(session: SessionFacts) -> bool:
    """Say whether the windows' times are known; imported files often do not state them."""
    return bool(session.windows) and all(None not in (w.start_s, w.duration_s) for w in session.windows)


def strip(session: SessionFacts) -> Strip:
    """Return the drawing of one session's windows, invalid ones marked at full height."""
    begin = min(window.start_s for window in session.windows)
    seconds = max(window.start_s + window.duration_s for window in session.windows) - begin
    most_w = max((window.mean_power_w or 0.0 for window in session.windows), default=0.0)
    bars = [_bar(window, begin, seconds or 1.0, most_w or 1.0) for window in session.windows]
    return Strip(session, seconds, most_w, bars)


def _bar(window: WindowPoint, begin: float, seconds: float, most_w: float) -> tuple:
    x = WIDTH * (window.start_s - begin) / seconds
    width = max(WIDTH * window.duration_s / seconds, _LEAST)
    if not window.valid or window.mean_power_w is None:
        why = ", ".join(window.reasons) or "no power"
        return round(x, 1), 0.0, round(width, 1), HEIGHT, "bad", f"run {window.run}, {window.phase}: invalid ({why})"
    height = HEIGHT * window.mean_power_w / most_w
    title = f"run {window.run}, {window.phase}: {window.mean_power_w:.3g} W for {window.duration_s:.3g} s"
    return round(x, 1), round(HEIGHT - height, 1), round(width, 1), round(height, 1), "ok", title
