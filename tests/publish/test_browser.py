"""The leaderboard in Chromium: from a folder, by mouse and by keyboard, with and without its script, phone and dark.

Screenshots go to ``test-output/leaderboard/``, to be looked at.
"""

from __future__ import annotations

import functools
import http.server
import re
import threading
from pathlib import Path

import pytest

from energylab import release
from energylab.publish import chromium, leaderboard, text

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
if chromium.find() is None:
    pytest.skip("Chromium is not installed (Debian: apt-get install chromium)", allow_module_level=True)

SHOTS = Path(__file__).parents[2] / "test-output" / "leaderboard"
BOXES = "Array.from(document.querySelectorAll('text'), text => text.getBBox()).map(box => [box.x, box.x + box.width])"
STRICT = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium.find(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, sites):
    """Open a page of a leaderboard; when the test ends, nothing may have complained or asked for anything else."""
    opened = []

    def open_page(path, width=1280, height=900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        page = context.new_page()
        complaints, asked = [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path if "://" in path else f"{sites.as_uri()}/{path}")
        if options.get("java_script_enabled", True):
            page.evaluate("document.querySelector('form details')?.setAttribute('open', '')")
        opened.append((context, complaints, asked, "http://127.0.0.1" if "://" in path else sites.as_uri()))
        return page

    yield open_page
    for context, complaints, asked, root in opened:
        context.close()
        assert complaints == []
        assert [url for url in asked if not url.startswith(root)] == []


def shot(page, name):
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def rows(page):
    return page.locator("main section.cohort:visible tbody tr:visible")


def texts_of(cells):
    """Texts as a reader sees them: rows off the screen are drawn a moment after they have moved."""
    for _ in range(100):
        texts = [found.strip() for found in cells.all_inner_texts()]
        if all(texts):
            break
        cells.page.wait_for_timeout(50)
    return texts


def names_of(page):
    return texts_of(rows(page).locator("th"))


def figures_of(page):
    return [float(found.replace(",", "")) for found in texts_of(rows(page).locator("td.wh"))]


def choose(page, task):
    page.get_by_role("tab", name=re.compile(f"^{task}")).click()


class TestSorting:
    def test_by_every_heading_and_back(self, open_page):
        page = open_page("official/index.html")
        ascending = names_of(page)
        energy = page.get_by_role("columnheader", name="Wh per 1,000 queries")
        assert energy.get_attribute("aria-sort") == "ascending"
        energy.get_by_role("button").click()
        assert names_of(page) == ascending[::-1]
        assert energy.get_attribute("aria-sort") == "descending"
        page.get_by_role("button", name="Model", exact=True).click()
        assert names_of(page) == sorted(ascending)
        assert energy.get_attribute("aria-sort") is None
        assert "Sorted by Model" in page.get_by_role("status").inner_text()
        page.get_by_role("button", name="Stars").click()
        stars = [int(found[0]) for found in texts_of(rows(page).locator("td.star"))]
        assert stars == sorted(stars, reverse=True)

    def test_missing_values_come_last_both_ways(self, open_page):
        page = open_page("published/index.html")
        choose(page, "Image captioning")
        page.get_by_role("button", name="Precision").click()
        assert len(names_of(page)) == 10


class TestTabs:
    def test_one_task_at_a_time(self, open_page, published):
        page = open_page("published/index.html")
        assert page.get_by_role("tab").count() == 10
        for cohort in published.cohorts:
            choose(page, text.task_title(cohort.task))
            shown = page.locator("section.cohort:visible caption").all_inner_texts()
            assert any(text.cohort_title(cohort.task, cohort.model_class) in caption for caption in shown)
            assert page.get_by_role("tabpanel").count() == 1

    def test_classes(self, open_page):
        page = open_page("published/index.html#task-text_generation")
        assert page.locator("section.cohort:visible").count() == 3
        page.get_by_role("button", name="Class B").click()
        assert page.locator("section.cohort:visible").count() == 1
        assert len(names_of(page)) == 3
        page.get_by_role("button", name="All classes").click()
        assert page.locator("section.cohort:visible").count() == 3

    def test_address_of_a_class_opens_its_task(self, open_page):
        page = open_page("published/index.html#text_generation-C")
        assert page.get_by_role("tab", selected=True).inner_text().startswith("Text generation")


class TestFilters:
    def test_search(self, open_page):
        page = open_page("published/index.html")
        choose(page, "Question answering")
        page.get_by_label("Search").fill("T5 base")
        assert names_of(page) == ["google-t5/t5-base"]
        assert "1 of 18 models shown" in page.get_by_role("status").inner_text()
        assert page.get_by_role("tab", name=re.compile("^Summarization")).inner_text().endswith("1")
        page.get_by_label("Search").fill("whisper")
        assert names_of(page) == []
        assert "in Speech recognition" in page.get_by_role("status").inner_text()
        page.get_by_role("button", name="Reset").click()
        page.wait_for_function("document.querySelectorAll('#task-question_answering tbody tr').length === 18")

    def test_stars_size_precision_and_kind(self, open_page, official):
        page = open_page("official/index.html")
        models = official.cohorts[0].models
        page.locator("#stars").select_option("4")
        assert names_of(page) == [model.model for model in models if model.stars >= 4]
        page.locator("#stars").select_option("0")
        page.locator("#size").select_option("1e9 7e9")
        assert names_of(page) == [model.model for model in models if 1e9 < model.parameters <= 7e9] != []
        page.locator("#size").select_option("")
        page.locator("#precision").select_option("float16")
        assert len(names_of(page)) == 8
        assert page.locator("#kind").locator("option").all_inner_texts() == ["of any kind", "measured"]
        page.locator("#kind").select_option("measured")
        assert len(names_of(page)) == 8


class TestUnits:
    def test_joules_and_back(self, open_page):
        page = open_page("official/index.html")
        wh, shown = figures_of(page), rows(page).locator("td").all_text_contents()
        page.locator("#unit").select_option("J")
        assert figures_of(page) == pytest.approx([3600 * value for value in wh], rel=0.006)
        assert page.get_by_role("columnheader", name="J per 1,000 queries").count() == 1
        page.locator("#unit").select_option("Wh")
        assert rows(page).locator("td").all_text_contents() == shown

    def test_emissions_at_a_stated_grid(self, open_page):
        page = open_page("official/index.html")
        wh = figures_of(page)
        page.locator("#unit").select_option("gCO2e")
        assert figures_of(page) == pytest.approx([0.475 * value for value in wh], rel=0.006)
        heading = page.locator("th.wh")
        france = page.locator("#grid option", has_text="France:").get_attribute("value")
        assert "World average: 475 g/kWh" in heading.inner_text()
        page.locator("#grid").select_option(value=france)
        assert figures_of(page)[0] < 0.15 * wh[0]
        assert "France" in heading.inner_text()

    def test_per_output_token(self, open_page, official):
        page = open_page("official/index.html")
        wh = figures_of(page)
        page.locator("#per").select_option("token")
        tokens = official.cohorts[0].models[0].output_tokens
        assert figures_of(page) == pytest.approx([value * 1000 / tokens for value in wh], rel=0.006)
        assert "per 1,000 output tokens" in page.locator("th.wh").inner_text()

    def test_without_tokens_there_is_no_figure(self, open_page):
        page = open_page("published/index.html")
        page.locator("#per").select_option("token")
        assert set(texts_of(rows(page).locator("td.wh"))) == {"–"}


class TestComparison:
    def test_models_of_one_table(self, open_page):
        page = open_page("published/index.html#task-text_generation")
        boxes = rows(page).get_by_role("checkbox")
        boxes.nth(0).check()
        panel = page.get_by_role("region", name="Comparison")
        assert "Choose more of this table" in panel.inner_text()
        for n in (1, 2, 3):
            boxes.nth(n).check()
        assert panel.locator("tbody tr").count() == 4
        assert "distilbert/distilgpt2 needs least" in panel.inner_text()
        assert "1.48 times as much" in panel.inner_text()  # 1.94 Wh beside 1.31
        shot(page, "comparison")
        panel.get_by_role("button", name="Clear").click()
        assert not panel.is_visible()
        assert page.locator("input:checked").count() == 0

    def test_another_table_starts_again(self, open_page):
        page = open_page("published/index.html#task-text_generation")
        first, second = page.locator("section.cohort:visible").all()[:2]
        first.get_by_role("checkbox").nth(0).check()
        second.get_by_role("checkbox").nth(0).check()
        assert page.locator("main input:checked").count() == 1
        assert "Only models of one table" in page.get_by_role("status").inner_text()

    def test_models_are_told_apart_by_their_ranks(self, open_page, published):
        cohort = next(cohort for cohort in published.cohorts if cohort.key == "image_captioning")
        page = open_page("published/index.html#task-image_captioning")
        boxes = rows(page).get_by_role("checkbox")
        panel = page.get_by_role("region", name="Comparison")
        tied = next(n for n in range(9) if cohort.models[n].rank_high >= cohort.models[n + 1].rank_low)
        apart = next(n for n in range(9) if cohort.models[n].rank_high < cohort.models[n + 1].rank_low)
        for first, words in ((tied, "cannot be told apart"), (apart, "Their ranks do not meet")):
            boxes.nth(first).check()
            boxes.nth(first + 1).check()
            assert words in panel.inner_text()
            panel.get_by_role("button", name="Clear").click()


class TestPermalink:
    def test_the_address_keeps_what_is_shown(self, open_page):
        page = open_page("published/index.html")
        choose(page, "Question answering")
        page.get_by_label("Search").fill("t5")
        page.locator("#unit").select_option("J")
        page.get_by_role("button", name="Model", exact=True).click()
        rows(page).get_by_role("checkbox").nth(1).check()
        shown = texts_of(rows(page).locator("th")), figures_of(page)
        again = open_page("published/index.html#" + page.url.partition("#")[2])
        assert (texts_of(rows(again).locator("th")), figures_of(again)) == shown
        assert again.get_by_role("tab", selected=True).inner_text().startswith("Question answering")
        assert again.locator("main input:checked").count() == 1

    def test_three_clicks_to_a_label(self, open_page):
        page = open_page("published/index.html")
        page.get_by_role("tab", name="Text generation").click()
        page.get_by_role("link", name="distilbert/distilgpt2").click()
        page.locator("a.label").first.click()
        assert page.url.endswith(".svg")

    def test_five_rows_are_above_the_fold(self, browser, sites):
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto((sites / "published" / "index.html").as_uri())
        fifth = page.locator("section.cohort:visible tbody tr").nth(4).bounding_box()
        assert fifth["y"] + fifth["height"] <= 800
        page.close()


class TestKeyboard:
    def test_everything_is_reached_and_works(self, open_page):
        page = open_page("published/index.html")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the tables"
        page.get_by_role("tab", selected=True).focus()
        page.keyboard.press("ArrowRight")
        assert page.get_by_role("tab", selected=True).inner_text().startswith("Image classification")
        page.keyboard.press("End")
        assert page.get_by_role("tab", selected=True).inner_text().startswith("Text generation")
        page.keyboard.press("Home")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "search"
        page.keyboard.type("git")
        assert len(names_of(page)) == 2
        heading = page.locator("section.cohort:visible th.wh button")
        heading.focus()
        page.keyboard.press("Enter")
        assert page.locator("section.cohort:visible th.wh").get_attribute("aria-sort") == "descending"
        page.keyboard.press("Tab")
        for _ in range(4):
            if page.evaluate("document.activeElement.type") == "checkbox":
                break
            page.keyboard.press("Tab")
        page.keyboard.press("Space")
        assert page.locator("input:checked").count() == 1
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_url("**/models/*.html")

    def test_focus_is_seen(self, open_page):
        page = open_page("official/index.html")
        page.get_by_label("Search").focus()
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


class TestWithoutScript:
    def test_reads_whole(self, open_page, published):
        page = open_page("published/index.html", java_script_enabled=False)
        assert page.locator("section.cohort:visible").count() == 12
        assert rows(page).count() == 166
        assert not page.locator("form").is_visible()
        assert page.get_by_role("table").count() == 12
        first = page.get_by_role("table").first
        assert first.get_by_role("row").count() == 11
        assert first.get_by_role("rowheader").count() == 10
        assert first.get_by_role("cell").count() == 10 * 5
        page.get_by_role("link", name="Text generation").click()
        page.get_by_role("link", name="distilbert/distilgpt2").click()
        assert page.locator("h1").inner_text() == "distilbert/distilgpt2"
        shot(page, "model-without-script")


class TestScreens:
    @pytest.mark.parametrize("site", ["official", "published", "hostile"])
    def test_phone_does_not_scroll_sideways(self, open_page, site, hostile_names):
        page = open_page(f"{site}/index.html", width=375, height=812, is_mobile=True, has_touch=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        shot(page, f"phone-{site}")
        name = {"official": "org/model-3", "published": "google-t5/t5-base", "hostile": hostile_names["long"]}[site]
        page.goto(page.url.split("#")[0].replace("index.html", f"models/{text.slug(name)}.html"))
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        shot(page, f"phone-{site}-model")

    def test_touch_targets_are_large_enough(self, open_page):
        page = open_page("published/index.html", width=375, height=812, is_mobile=True, has_touch=True)
        for target in page.locator("a:visible, button:visible, select:visible").all()[:40]:
            assert target.bounding_box()["height"] >= 24

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_light_and_dark(self, open_page, scheme):
        page = open_page("published/index.html#task-text_generation", color_scheme=scheme)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 150) == (scheme == "dark")
        shot(page, scheme)
        page.goto(page.url.split("/index")[0] + f"/models/{text.slug('google-t5/t5-base')}.html")
        shot(page, f"{scheme}-model")

    def test_print_shows_every_table(self, open_page):
        page = open_page("published/index.html")
        page.emulate_media(media="print")
        assert page.locator("section.cohort:visible").count() == 12


class TestHostile:
    def test_names_do_nothing(self, open_page, hostile_names):
        page = open_page("hostile/index.html")
        assert set(names_of(page)) == {text.one_line(name) for name in hostile_names.values()}
        for n in range(4):
            rows(page).get_by_role("checkbox").nth(n).check()
        page.get_by_role("button", name="Model", exact=True).click()
        page.get_by_label("Search").fill("<script>")
        assert names_of(page) == [hostile_names["script"]]
        shot(page, "hostile")
        for name in hostile_names.values():
            page.goto(page.url.split("/index")[0].split("/models")[0] + f"/models/{text.slug(name)}.html")
            assert page.title() == f"{text.one_line(name)}: energy rating"

    def test_labels_are_drawn_inside(self, browser, sites):
        page = browser.new_page(viewport={"width": 260, "height": 364})
        for label in sorted((sites / "hostile" / "labels").glob("*.svg")):
            page.set_content(f'<body style="margin:0">{label.read_text(encoding="utf-8")}')
            boxes = page.evaluate(BOXES)
            assert min(left for left, _ in boxes) >= 14.5  # a glyph's own bearing may reach into the margin
            assert max(right for _, right in boxes) <= 245.5
            shot(page, f"label-{label.stem}")
        page.close()


class TestServed:
    @pytest.fixture
    def served(self, sites):
        """Serve the leaderboards on the loopback under a strict content security policy."""

        class Handler(http.server.SimpleHTTPRequestHandler):
            def end_headers(self):
                self.send_header("Content-Security-Policy", STRICT)
                super().end_headers()

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=sites))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        server.server_close()

    def test_strict_policy_holds(self, open_page, served):
        page = open_page(f"{served}/official/index.html")
        page.get_by_role("button", name="Model", exact=True).click()
        page.locator("#unit").select_option("J")
        rows(page).get_by_role("checkbox").nth(0).check()
        page.get_by_role("link", name="org/model-3").click()
        assert page.locator(".label img").evaluate("image => image.naturalWidth") == 260


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A leaderboard of 1,200 models in one table."""
    folder = tmp_path_factory.mktemp("crowd")
    lines = [f"qa,org/model-{n},{3.6 * (10 + n)},1,{s}" for n in range(1200) for s in (0, 1)]
    (folder / "t.csv").write_text("task,model,energy_j,queries,session\n" + "\n".join(lines))
    made = release.make([folder / "t.csv"], name="crowd", date="2026-01-01", draws=100)
    return leaderboard.build(made, folder / "site", with_labels=False)


class TestManyModels:
    @pytest.fixture
    def page(self, browser, crowd):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(crowd.as_uri())
        yield page
        page.close()

    def test_a_hundred_rows_until_all_are_asked_for(self, page):
        assert page.locator("section.cohort table").get_attribute("aria-rowcount") == "1201"
        assert rows(page).count() == 100
        page.get_by_role("button", name="Show all 1,200").click()
        assert rows(page).count() == 1200
        assert not page.locator(".more").is_visible()

    def test_search_and_sort_see_all(self, page):
        page.get_by_label("Search").fill("model-1199")
        assert names_of(page) == ["org/model-1199"]
        page.get_by_label("Search").fill("")
        page.get_by_role("button", name="Wh per 1,000 queries").click()
        assert names_of(page)[0] == "org/model-1199"

    def test_without_script_all_are_there(self, browser, crowd):
        page = browser.new_page(java_script_enabled=False)
        page.goto(crowd.as_uri())
        assert page.locator("tbody tr").count() == 1200
        page.close()
