"""One Chromium a test module, and pages that may neither complain nor ask for anything from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

#: Screenshots, to be looked at.
SHOTS = Path(__file__).parents[1] / "test-output"


@pytest.fixture(scope="module")
def chrome():
    """Chromium; skips where it or playwright is missing."""
    from energylab.publish import chromium

    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if chromium.find() is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium.find(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def watch(chrome):
    """Open a page below an address; when the test ends, nothing may have complained or asked for anything else."""
    opened = []

    def watch(root, path, width=1280, height=900, **options):
        context = chrome.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(300_000)  # for hangs alone
        page, complaints, asked = context.new_page(), [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: asked.append(request.url))
        opened.append((context, complaints, asked, root))
        page.goto(root + path)
        return page

    yield watch
    for context, complaints, asked, root in opened:
        context.close()
        assert complaints == []
        assert [url for url in asked if not url.startswith(root)] == []


def shot(page, name):
    """Keep a picture of a page as ``test-output/NAME.png``."""
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)
