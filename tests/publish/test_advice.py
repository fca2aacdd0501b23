"""What would change a star: sentences that add up with the probability beside the star."""

from __future__ import annotations

import pytest

from energylab.publish import advice


@pytest.mark.parametrize(
    ("probabilities", "said"),
    [
        # Each other star alone is below 1 %; together they are not.
        ((0.98, 0.007, 0.006, 0.004, 0.003), "in 2\u00a0% of cases (2 stars: <\u00a01\u00a0%; 3 stars"),
        ((0.9, 0.1, 0.0, 0.0, 0.0), "in 10\u00a0% of cases (2 stars: 10\u00a0%)."),
        ((0.995, 0.005, 0.0, 0.0, 0.0), "in less than 1 of 100 cases."),
    ],
)
def test_doubt_adds_up_with_the_star(official, probabilities, said):
    cohort = official.cohorts[0]
    model = cohort.models[-1].model_copy(update={"stars": 1, "probabilities": probabilities})
    sentences = advice.what_would_change(cohort, model)
    assert [text for text in sentences if text.startswith("Measuring") and said in text]
