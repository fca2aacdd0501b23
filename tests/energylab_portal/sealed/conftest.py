"""What the tests of closed models share."""

from __future__ import annotations

import closed_builders
import pytest

from energylab_portal.sealed.verify import verify


@pytest.fixture(scope="session")
def honest():
    """Return one honest sealed run of a simulated H100."""
    return closed_builders.honest_run()


@pytest.fixture(scope="session")
def judge():
    """Return a function that verifies a bundle by the owner's enrolled key and the builders' official image."""

    def judged(bundle, **more):
        keys = more.pop("keys", closed_builders.enrolled())
        return verify(bundle, keys=keys, official=closed_builders.OFFICIAL, **more)

    return judged
