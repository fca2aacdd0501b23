"""What each model's measurement shows after every look: estimate, its errors, energy spent.

A look is a place where the rule may stop. The errors are the package's: `anytime.anytime_terms` for the choice of
queries (regression on the covariate, finite population: nothing is left of it once all were asked), and the known
spreads of runs (an upper bound) and of the counter's steps, as `sessions.known_half_width` takes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from energylab.statistics.anytime import anytime_terms
from energylab.statistics.evidence import Evidence, Part
from energylab.statistics.sessions import KNOWN_DF, known_ratio, repeated_mean, session_weight
from rate_rows import worlds
from rate_rows.worlds import BLOCKS, IDLE_AGAIN_S, IDLE_S, LEAD_IN_S, QUERIES, RUNS, WINDOW_S, World

#: Units of five queries after which table (i) looks: in the first pass, then as a share of a pass.
FIRST = (*range(5, 12), *range(12, 24, 2), 25, 28, 32, 36, 40, 45, 50, 57, 64, 72, 80, 90, *range(100, 201, 20))
LATER = (1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2.0, 2.2, 2.5, 2.8, 3.2, 3.6, 4.0, 4.5, *range(5, 11))
TUNED = 12  # units the first pass is tuned to
LEVEL = 0.95  # the mixtures are tuned to
SESSIONS = 60  # cap of table (ii), beside ...
CAP_S = 1800.0  # ... the energy of the published protocol, or of so many seconds of work where that is more
WHOLE_S = 60.0  # all queries up to this long are one window of a later session; of longer ones ...
ANCHORS = 3  # ... as many as filled so many windows of the first pass
SIZES = np.array([1, 10, 20, 25, 40, 50, 100, 200])  # windows a pass may be cut into, all of as many blocks
SHORT_WINDOWS = 3  # of a session where all queries together do not fill ten windows: each window holds them all
USUAL_CV = 0.36  # of a query's residual, to plan with
INVALID = 1.01  # one window in a hundred is invalid: paid for, and measured again


@dataclass(frozen=True)
class Ladder:
    """Every look at every model; arrays of shape (count, models, looks) unless said otherwise.

    Attributes
    ----------
    mean : ndarray
        Estimate, Wh per 1,000 queries.
    error, df, ratio : ndarray
        Of the choice of queries; see `evidence.Part`.
    known_error, known_ratio : ndarray
        Of runs and ticks together.
    cost : ndarray
        Energy spent so far as a share of the published protocol's.
    last : ndarray of int, shape (count, models)
        Index of a model's last look, where it is at its cap.
    """

    mean: np.ndarray
    error: np.ndarray
    df: np.ndarray
    ratio: np.ndarray
    known_error: np.ndarray
    known_ratio: np.ndarray
    cost: np.ndarray
    last: np.ndarray

    def at(self, look: np.ndarray) -> Evidence:
        """Return the evidence of each model at its look."""
        mean, error, df, ratio, known, known_ratio = (
            rung(each, look)
            for each in (self.mean, self.error, self.df, self.ratio, self.known_error, self.known_ratio)
        )
        return Evidence(mean, (Part(error, df, ratio), Part(known, np.full_like(known, KNOWN_DF), known_ratio)))


def rung(values: np.ndarray, look: np.ndarray) -> np.ndarray:
    """Return each model's value at its look."""
    return np.take_along_axis(values, look[..., None], axis=-1)[..., 0]


def by_queries(rng: np.random.Generator, world: World) -> Ladder:
    """Build the ladder of table (i): any few queries are a run of their own, and nothing but queries costs."""
    noise = rng.standard_normal((*world.power_w.shape, RUNS, BLOCKS), dtype=np.float32)
    y = world.blocks[..., None, :] * (1 + world.run_cv[..., None, None] * noise)
    units = np.concatenate([FIRST, np.round(np.multiply(LATER, BLOCKS))]).astype(int)
    mean, *queries = (each[..., units - 1] for each in _queries(y, world.covariate))
    runs = 1 / session_weight(RUNS, BLOCKS)[units - 1]
    known = mean * world.bound_cv[..., None] / np.sqrt(runs)
    ratio = np.broadcast_to(known_ratio(runs, LEVEL, tuned_count=TUNED), mean.shape)
    last = np.full(world.power_w.shape, units.size - 1)
    cost = np.broadcast_to(units / (RUNS * BLOCKS), mean.shape)
    return _ladder(world, mean, *queries, known, ratio, cost, last)


def _queries(y: np.ndarray, covariate: np.ndarray) -> tuple[np.ndarray, ...]:
    """Estimate, error, df and ratio after every window of shape (..., passes, windows).

    In the first pass by regression; later all queries were asked, so that their choice is no error any more. Noise of
    the windows is apart; that it is in the residuals too only widens.
    """
    windows = y.shape[-1]
    terms = anytime_terms(
        y[..., 0, :],
        covariate,
        level=LEVEL,
        tuned_windows=TUNED,
        population_windows=windows,
        sampling_share=1.0,
    )
    mean = repeated_mean(y)
    mean[..., : windows - 1] = terms.mean[..., :-1]
    error, ratio = np.zeros(mean.shape), np.ones(mean.shape)
    error[..., : windows - 1], ratio[..., : windows - 1] = terms.error[..., :-1], terms.ratio[..., :-1]
    df = np.maximum(np.arange(mean.shape[-1]) - 1.0, 1.0)
    return mean, error, np.broadcast_to(df, mean.shape), ratio


def metered(rng: np.random.Generator, world: World) -> Ladder:
    """Build the ladder of table (ii): windows of a stepping counter, every few of them a session of its own."""
    sizes, per_session = _plan(world)
    parts = []
    for size, windows in np.unique(np.stack([sizes, per_session]).reshape(2, -1), axis=1).T:
        at = np.nonzero((sizes == size) & (per_session == windows))
        parts.append((at, _sessions(rng, world, _Board.of(world, at, int(size), int(windows)))))
    longest = max(rungs[0].shape[-1] for _, rungs in parts)
    whole = [np.empty((*sizes.shape, longest)) for _ in range(7)]
    last = np.zeros(sizes.shape, int)
    for at, rungs in parts:
        cap = np.maximum(1.0, CAP_S / (RUNS * world.pass_s[at]))
        last[at] = np.maximum(np.count_nonzero(rungs[-1] <= cap[:, None], axis=-1) - 1, 0)
        for all_of_it, part in zip(whole, rungs, strict=True):
            padding = np.repeat(part[..., -1:], longest - part.shape[-1], axis=-1)
            all_of_it[at] = np.concatenate([part, padding], axis=-1)
    return _ladder(world, *whole, last)


def _plan(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Windows that a pass over all queries fills, and windows of a session, both known before anything is measured.

    A window holds at least five queries. Fewer than ten windows are no sample: then each holds all queries. A session
    is as long as pays: the square root of its own cost over a window's, times the spread of windows over the bound of
    that of sessions (Cochran 1977, 10.6).
    """
    fits = np.clip(world.pass_s / WINDOW_S, 1, BLOCKS)
    sizes = SIZES[np.searchsorted(SIZES, fits, side="right") - 1]
    window_j = world.pass_s / sizes * world.power_w
    window_cv = USUAL_CV / np.sqrt(QUERIES / sizes)
    wanted = np.sqrt(worlds.session_j(world) / window_j) * window_cv / world.bound_cv
    lengths = SIZES[SIZES > 1]
    whole = sizes[..., None] % lengths == 0  # sessions of that length make up a pass
    windows = np.where(whole & (lengths <= wanted[..., None]), lengths, 0).max(axis=-1)
    shortest = np.where(whole, lengths, BLOCKS).min(axis=-1)
    return sizes, np.where(sizes == 1, SHORT_WINDOWS, np.maximum(windows, shortest))


@dataclass(frozen=True)
class _Board:
    """Models whose queries fill as many windows, as many a session; arrays of shape (models, 1).

    Attributes
    ----------
    at : tuple of ndarray
        Which models of which simulations.
    size, windows, first : int
        Windows of a pass, of a session of the first pass; sessions of the first pass.
    length_s, again_s : ndarray
        Seconds of a window of the first pass, and of the one window of a later session.
    anchored : ndarray of bool
        Whether a later session holds some queries only, to be set against what the first pass found for them; it
        holds all where that is short.
    run_cv, bound_cv, power_w : ndarray
        As in `worlds.World`.
    """

    at: tuple[np.ndarray, ...]
    size: int
    windows: int
    first: int
    length_s: np.ndarray
    again_s: np.ndarray
    anchored: np.ndarray
    run_cv: np.ndarray
    bound_cv: np.ndarray
    power_w: np.ndarray

    @classmethod
    def of(cls, world: World, at, size: int, windows: int) -> _Board:
        pass_s = world.pass_s[at][:, None]
        first = max(size // windows, 1)
        if size == 1:
            length_s = pass_s * np.ceil(WINDOW_S / pass_s)
            again_s, anchored = length_s * windows, np.zeros(pass_s.shape, bool)
        else:
            length_s, anchored = pass_s / size, pass_s > WHOLE_S
            anchors = max(ANCHORS, first)
            again_s = np.where(anchored, anchors * length_s, pass_s)
        figures = world.run_cv[at[0]], world.bound_cv[at[0]], world.power_w[at][:, None]
        return cls(at, size, windows, first, length_s, again_s, anchored, *figures)

    @property
    def in_pass(self) -> int:
        """Windows of the first pass."""
        return self.first * self.windows

    @property
    def later(self) -> np.ndarray:
        """Numbers of sessions after the first pass."""
        return np.arange(1, SESSIONS - self.first + 1)


def _sessions(rng: np.random.Generator, world: World, board: _Board) -> tuple[np.ndarray, ...]:
    """Build the ladder of the models of a board; all but `last`."""
    deviation = board.run_cv * rng.standard_normal((board.at[0].size, SESSIONS))
    count, mean, queries = _first_pass(rng, world, board, deviation[:, : board.first])
    sessions = -(-count // board.windows)
    tick_cv = worlds.tick_cv(board.length_s)
    known = np.concatenate([board.bound_cv**2 / sessions + tick_cv**2 / count, _known_later(board)], axis=1)
    mean = np.concatenate([mean, _later_means(rng, board, deviation, mean[:, -1:])], axis=1)
    nothing_left = np.zeros((mean.shape[0], board.later.size))
    queries = [np.concatenate([e, nothing_left + left], axis=1) for e, left in zip(queries, (0, 1, 1), strict=True)]
    cost = _cost(world, board, count, sessions)
    return mean, *queries, mean * np.sqrt(known), known_ratio(board.bound_cv**2 / known, LEVEL), cost


def _first_pass(rng, world: World, board: _Board, deviation: np.ndarray) -> tuple:
    """Windows at every look, estimates, and errors of the choice of queries, until all queries were asked."""
    y = 1 + np.repeat(deviation, board.windows, axis=1)
    y = y * (1 + worlds.window_noise(rng, y.shape, board.length_s))
    if board.size == 1:
        mean = y.mean(axis=-1, keepdims=True)
        return np.array([board.windows]), mean, (np.zeros_like(mean), np.ones_like(mean), np.ones_like(mean))
    shape = (-1, board.size, BLOCKS // board.size)
    blocks, covariate = (each[board.at].reshape(shape).mean(-1) for each in (world.blocks, world.covariate))
    early = [n for n in FIRST if n < board.windows]
    count = np.concatenate([early, board.windows * np.arange(1, board.first + 1)]).astype(int)
    mean, *queries = (each[..., count - 1] for each in _queries((y * blocks)[:, None, :], covariate))
    return count, mean, queries


def _later_means(rng, board: _Board, deviation: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Estimates after later sessions: the mean of the first pass, which counts as its sessions, and of one each.

    A session that measures anchors is the first pass's figure times the ratio of the anchors to what was found for
    them there: its own deviation in place of theirs.
    """
    more = board.later
    noise = worlds.tick_cv(board.again_s) * rng.standard_normal((board.at[0].size, more.size))
    then = worlds.tick_cv(board.length_s) * np.sqrt(board.length_s / board.again_s) * rng.standard_normal(noise.shape)
    own = deviation[:, board.first :]
    theirs = deviation[:, : board.first].mean(axis=1, keepdims=True)
    each = np.where(board.anchored, whole * (1 + own - theirs + noise + then), 1 + own + noise)
    return (board.first * whole + np.cumsum(each, axis=1)) / (board.first + more)


def _known_later(board: _Board) -> np.ndarray:
    """Known relative variance after later sessions: of sessions, of ticks in the first pass and since."""
    more, tick = board.later, worlds.tick_cv(board.length_s) ** 2
    total = board.first + more
    weight = np.where(board.anchored, 1.0, (board.first / total) ** 2)  # of the first pass: anchors rest on all of it
    anchors = np.maximum(board.length_s / (board.again_s * more), 1 / board.in_pass)  # once all served, they repeat
    ticks = tick * (weight / board.in_pass + board.anchored * anchors * (more / total) ** 2)
    return board.bound_cv**2 / total + ticks + worlds.tick_cv(board.again_s) ** 2 * more / total**2


def _cost(world: World, board: _Board, count: np.ndarray, sessions: np.ndarray) -> np.ndarray:
    """Energy at every look as a share of the published protocol's: windows, lead-ins, warm-up and idle."""
    window_j, again_j = ((each + LEAD_IN_S) * board.power_w * INVALID for each in (board.length_s, board.again_s))
    windows_j = np.concatenate([window_j * count, window_j * board.in_pass + again_j * board.later], axis=1)
    once_j, anew_j = (worlds.session_j(world, idle_s)[board.at][:, None] for idle_s in (IDLE_S, IDLE_AGAIN_S))
    started = np.concatenate([sessions, board.first + board.later])
    published_j = RUNS * world.energy_wh[board.at[1]] * 3600
    return (windows_j + once_j + anew_j * (started - 1)) / published_j[:, None]


def _ladder(world: World, mean, error, df, ratio, known_error, known_ratio, cost, last) -> Ladder:
    """Turn relative figures into Wh per 1,000 queries."""
    wh = world.energy_wh[:, None]
    return Ladder(mean * wh, error * wh, df, ratio, known_error * wh, known_ratio, cost, last)


def fixed_sample(rng: np.random.Generator, world: World, queries: int, sessions: bool) -> tuple[np.ndarray, np.ndarray]:
    """Measure the baseline, the plain mean of a fixed sample in one go; return figures and cost as in `Ladder`.

    Parameters
    ----------
    sessions : bool
        Whether it is one metered session, or runs of ten queries each that cost their queries alone.
    """
    count = queries * BLOCKS // QUERIES
    shape = world.power_w.shape
    sample = world.blocks[..., :count].mean(axis=-1)
    cost = np.full(shape, queries / (RUNS * QUERIES))
    if not sessions:
        noise = rng.standard_normal(shape) / np.sqrt(count)
        return world.energy_wh * sample * (1 + world.run_cv * noise), cost
    length_s = np.maximum(world.pass_s * queries / QUERIES, WINDOW_S)
    seen = sample * (1 + world.run_cv * rng.standard_normal(shape)) * (1 + worlds.window_noise(rng, shape, length_s))
    spent_j = length_s * world.power_w + worlds.session_j(world)
    return world.energy_wh * seen, spent_j / (RUNS * world.energy_wh * 3600)
