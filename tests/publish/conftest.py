"""Releases for the tests of what is published: official, published and hostile ones, and their pages."""

from __future__ import annotations

import pytest
from release_builders import record_of, released, write_all

from energylab import release
from energylab.publish import leaderboard

#: Names that must come out as text wherever they are printed.
HOSTILE = {
    "script": "<script>alert(1)</script>",
    "attribute": '"><img src=x onerror=alert(1)>',
    "link": "javascript:alert(1)",
    "long": "x" * 280 + "/a-name_that.never-ends",
    "null": "nul\x00l/by\x00te",
    "emoji": "👩‍🔬🔋/モデル-🌱",
    "override": "safe/\u202egnp.exe",
    "formula": '=HYPERLINK("http://example.org","x")',
    "plus": "+cmd|' /C calc'!A0",
    "template": "{{ 7 * 7 }}{% raw %}",
    "newline": "two\nlines\r\n/x",
    "arabic": "نموذج/لغوي-كبير",
    "comment": "--><!-- ]]> &amp; &lt;",
}


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """The folder of an official study: eight models, three sessions each; of one a window was measured again."""
    energies = {f"org/model-{n}": 4.0 * 1.5**n for n in range(8)}
    records = [
        record_of(name, wh, session, parameters=int(2e8 * wh), quality=0.4 + wh / 200, broken=name.endswith("3"))
        for name, wh in energies.items()
        for session in range(3)
    ]
    return write_all(records, tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="session")
def official(study):
    """The release of the official study."""
    address = "https://example.org/energy"
    return release.make([study], name="official-2026-03", date="2026-03-05", draws=2000, address=address)


@pytest.fixture(scope="session")
def published():
    """The release of the published figures of February 2025."""
    return release.make(["published:2025-02"], name="published-2025-02", date="2025-02-28", noise=0.01, draws=2000)


@pytest.fixture(scope="session")
def hostile_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="session")
def hostile(hostile_folder):
    """The release of estimated records of random weights whose names are hostile; so is that of their task."""
    unofficial = {"kind": "estimated", "source": "random", "data": "sample", "model_class": None, "task": "<b>qa</b>"}
    records = [
        record_of(name, 5.0 + n, session, **unofficial)
        for n, name in enumerate(HOSTILE.values())
        for session in range(2)
    ]
    return released(records, hostile_folder, name="hostile", draws=200)


@pytest.fixture(scope="session")
def hostile_names():
    """Hostile names by what is hostile about them."""
    return HOSTILE


@pytest.fixture(scope="session")
def sites(published, official, study, hostile, hostile_folder, tmp_path_factory):
    """The folders of three leaderboards, by release."""
    root = tmp_path_factory.mktemp("sites")
    leaderboard.build(published, root / "published")
    leaderboard.build(official, root / "official", records=[study])
    leaderboard.build(hostile, root / "hostile", records=[hostile_folder])
    return root
