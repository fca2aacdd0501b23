"""Joint evidence: one part is the anytime-valid interval, several are an ellipsoid that holds."""

import numpy as np
import pytest

from energylab.statistics.anytime import anytime_path, anytime_terms, multiplier
from energylab.statistics.evidence import Evidence, Part
from energylab.statistics.sessions import KNOWN_DF, known_half_width, known_ratio


def known(error, count=9.0):
    return Part(np.asarray(error, float), np.asarray(KNOWN_DF), known_ratio(count, 0.95))


def test_one_part_is_the_interval_of_the_path():
    energy = 1 + 0.1 * np.random.default_rng(0).standard_normal((3, 30))
    terms, path = anytime_terms(energy), anytime_path(energy)
    evidence = Evidence(terms.mean, (Part(terms.error, terms.df, terms.ratio),))
    assert evidence.half_width(0.05) == pytest.approx(path.half_width)


def test_a_known_part_is_the_interval_of_the_sessions():
    evidence = Evidence(np.array([1.0]), (known([0.02 / 3]),))
    assert evidence.half_width(0.05) == pytest.approx(known_half_width(9.0, 0.02, 0.95))


def test_a_part_without_error_costs_nothing_and_an_unknown_one_everything():
    gone = Part(np.array([0.0]), np.array([1.0]), np.array([7.0]))
    unknown = Part(np.array([np.inf]), np.array([1.0]), np.array([7.0]))
    part = known([0.01])
    assert Evidence(np.ones(1), (part, gone)).half_width(0.05) == pytest.approx(
        Evidence(np.ones(1), (part,)).half_width(0.05)
    )
    assert np.isinf(Evidence(np.ones(1), (part, unknown)).half_width(0.05))


def test_half_widths_add_as_squares_at_a_common_price():
    one, two = known([0.03]), known([0.04])
    both = Evidence(np.ones(1), (one, two)).half_width(0.05)
    needed = np.log(20) + one.price + two.price
    assert both == pytest.approx(np.hypot(one.reach(needed), two.reach(needed)))
    assert both < known([0.07]).reach(needed)


def test_the_region_lies_within_the_ellipsoid():
    """Every point where the product of likelihood ratios stays below 1/alpha, found on a grid."""
    parts = [Part(np.array(0.1), np.array(6.0), np.array(15.0)), known(0.05)]
    needed = np.log(20) + sum(part.price for part in parts)
    reach = [float(part.reach(needed)) for part in parts]
    grids = np.meshgrid(*(np.linspace(-2 * r, 2 * r, 201) for r in reach))
    used = 0.0
    for part, grid in zip(parts, grids, strict=True):
        t2, df, ratio = (grid / part.error) ** 2, float(part.df), float(part.ratio)
        used = used + (df + 1) / 2 * (np.log1p(t2 / df) - np.log1p(t2 / (df * ratio)))
    inside = used < needed
    outside_ellipsoid = sum((grid / r) ** 2 for grid, r in zip(grids, reach, strict=True)) > 1 + 1e-9
    assert inside.any()
    assert not np.any(inside & outside_ellipsoid)


def test_each_changes_every_array():
    evidence = Evidence(np.array([1.0, 2.0]), (Part(np.array([0.1, 0.2]), np.array([4.0, 5.0]), np.array([9.0, 9.0])),))
    second = evidence.each(lambda values: values[1:])
    assert second.mean == pytest.approx([2.0])
    assert second.parts[0].df == pytest.approx([5.0])
    assert multiplier(5.0, 9.0, 0.05) * 0.2 == pytest.approx(second.half_width(0.05)[0])
