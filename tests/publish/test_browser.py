"""The leaderboard in Chromium: from a folder, by mouse and by keyboard, with and without its script, phone and dark."""

from __future__ import annotations

import functools
import http.server
import re
import threading

import browser
import pytest

from energylab import release
from energylab.publish import budget, emissions, label, leaderboard, page, statement, text

BOXES = "Array.from(document.querySelectorAll('text'), text => text.getBBox()).map(b => [b.x, b.y, b.width, b.height])"
STRICT = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'"
PHONE = {"width": 375, "height": 812, "is_mobile": True, "has_touch": True}


@pytest.fixture
def open_page(watch, sites):
    """Open a page of a leaderboard, its filters unfolded."""

    def open_page(path, root=None, **options):
        tab = watch(root or f"{sites.as_uri()}/", path, **options)
        if options.get("java_script_enabled", True):
            tab.evaluate("document.querySelector('form details')?.setAttribute('open', '')")
        return tab

    return open_page


def rows(tab):
    return tab.locator("main section.cohort:visible tbody tr:visible")


def texts_of(cells):
    """Texts as a reader sees them: rows off the screen are drawn a moment after they have moved."""
    for _ in range(100):
        texts = [found.strip() for found in cells.all_inner_texts()]
        if all(texts):
            break
        cells.page.wait_for_timeout(50)
    return texts


def names_of(tab):
    return texts_of(rows(tab).locator("th"))


def figures_of(tab):
    return [float(found.replace(",", "")) for found in texts_of(rows(tab).locator("td.wh"))]


def choose(tab, task):
    tab.get_by_role("tab", name=re.compile(f"^{task}")).click()


def status(tab):
    return tab.get_by_role("status").inner_text()


def test_sorting_by_every_heading_and_filters(open_page, official):
    tab = open_page("official/index.html")
    ascending = names_of(tab)
    energy = tab.get_by_role("columnheader", name="Wh per 1,000 queries")
    assert energy.get_attribute("aria-sort") == "ascending"
    energy.get_by_role("button").click()
    assert names_of(tab) == ascending[::-1]
    assert energy.get_attribute("aria-sort") == "descending"
    tab.get_by_role("button", name="Model", exact=True).click()
    assert names_of(tab) == sorted(ascending)
    assert energy.get_attribute("aria-sort") is None
    assert "Sorted by Model" in status(tab)
    tab.get_by_role("button", name="Stars").click()
    stars = [int(found[0]) for found in texts_of(rows(tab).locator("td.star"))]
    assert stars == sorted(stars, reverse=True)
    energy.get_by_role("button").click()
    models = official.cohorts[0].models
    tab.locator("#stars").select_option("4")
    assert names_of(tab) == [model.model for model in models if model.stars >= 4]
    tab.locator("#stars").select_option("0")
    tab.locator("#size").select_option("1e9 7e9")
    assert names_of(tab) == [model.model for model in models if 1e9 < model.parameters <= 7e9] != []
    tab.locator("#size").select_option("")
    tab.locator("#precision").select_option("float16")
    tab.locator("#kind").select_option("measured")
    assert len(names_of(tab)) == 8


def test_one_task_at_a_time_and_its_classes(open_page, published):
    tab = open_page("published/index.html")
    assert tab.get_by_role("tab").count() == 10
    for cohort in published.cohorts:
        choose(tab, text.task_title(cohort.task))
        shown = tab.locator("section.cohort:visible caption").all_inner_texts()
        assert any(text.cohort_title(cohort.task, cohort.model_class) in caption for caption in shown)
        assert tab.get_by_role("tabpanel").count() == 1
    tab.get_by_role("button", name="Class B").click()
    assert len(names_of(tab)) == 3
    tab.get_by_role("button", name="All classes").click()
    assert tab.locator("section.cohort:visible").count() == 3
    again = open_page("published/index.html#text_generation-C")
    assert again.get_by_role("tab", selected=True).inner_text().startswith("Text generation")


def test_search(open_page):
    tab = open_page("published/index.html")
    choose(tab, "Question answering")
    tab.get_by_label("Search").fill("T5 base")
    assert names_of(tab) == ["google-t5/t5-base"]
    assert "1 of 18 models shown" in status(tab)
    assert tab.get_by_role("tab", name=re.compile("^Summarization")).inner_text().endswith("1")
    tab.get_by_label("Search").fill("whisper")
    assert names_of(tab) == []
    assert "in Speech recognition" in status(tab)
    tab.get_by_role("button", name="Reset").click()
    tab.wait_for_function("document.querySelectorAll('#task-question_answering tbody tr').length === 18")


def test_units(open_page, official):
    tab = open_page("official/index.html")
    wh, shown = figures_of(tab), rows(tab).locator("td").all_text_contents()
    heading = tab.locator("th.wh")
    for control, value, factor, words in (
        ("unit", "J", 3600, "J per 1,000 queries"),
        ("unit", "gCO2e", 0.475, "World average: 475 g/kWh"),
        ("unit", "Wh", 1, "Wh per 1,000 queries"),
        ("per", "token", 1000 / official.cohorts[0].models[0].output_tokens, "per 1,000 output tokens"),
    ):
        tab.locator(f"#{control}").select_option(value)
        assert figures_of(tab) == pytest.approx([factor * each for each in wh], rel=0.006)
        assert words in heading.inner_text()
    tab.locator("#per").select_option("query")
    assert rows(tab).locator("td").all_text_contents() == shown
    tab.locator("#unit").select_option("gCO2e")
    tab.locator("#grid").select_option(label=tab.locator("#grid option", has_text="France:").inner_text())
    assert figures_of(tab)[0] < 0.15 * wh[0]
    without = open_page("published/index.html")
    without.locator("#per").select_option("token")
    assert set(texts_of(rows(without).locator("td.wh"))) == {"–"}


def test_comparison_of_one_table(open_page):
    tab = open_page("published/index.html#task-text_generation")
    boxes = rows(tab).get_by_role("checkbox")
    boxes.nth(0).check()
    panel = tab.get_by_role("region", name="Comparison")
    assert "Choose more of this table" in panel.inner_text()
    for n in (1, 2, 3):
        boxes.nth(n).check()
    assert panel.locator("tbody tr").count() == 4
    assert "distilbert/distilgpt2 needs least energy" in panel.inner_text()
    assert "1.48 times as much" in panel.inner_text()  # 1.94 Wh beside 1.31
    browser.shot(tab, "leaderboard/comparison")
    tab.locator("section.cohort:visible").nth(1).get_by_role("checkbox").nth(0).check()
    assert tab.locator("main input:checked").count() == 1
    assert "Only models of one table" in status(tab)
    panel.get_by_role("button", name="Clear").click()
    assert not panel.is_visible()


def test_models_are_told_apart_by_their_ranks(open_page, published):
    models = next(cohort for cohort in published.cohorts if cohort.key == "image_captioning").models
    tab = open_page("published/index.html#task-image_captioning")
    boxes = rows(tab).get_by_role("checkbox")
    panel = tab.get_by_role("region", name="Comparison")
    meet = [models[n].rank_high >= models[n + 1].rank_low for n in range(9)]
    for first, words in ((meet.index(True), "overlaps that of"), (meet.index(False), "ranks do not overlap")):
        boxes.nth(first).check()
        boxes.nth(first + 1).check()
        assert words in panel.inner_text()
        panel.get_by_role("button", name="Clear").click()


def test_the_address_keeps_what_is_shown(open_page):
    tab = open_page("published/index.html")
    choose(tab, "Question answering")
    tab.get_by_label("Search").fill("t5")
    tab.locator("#unit").select_option("J")
    tab.get_by_role("button", name="Model", exact=True).click()
    rows(tab).get_by_role("checkbox").nth(1).check()
    shown = names_of(tab), figures_of(tab)
    again = open_page("published/index.html#" + tab.url.partition("#")[2])
    assert (names_of(again), figures_of(again)) == shown
    assert again.get_by_role("tab", selected=True).inner_text().startswith("Question answering")
    assert again.locator("main input:checked").count() == 1


def test_five_rows_above_the_fold_and_three_clicks_to_a_label(open_page, watch, sites):
    tab = watch(sites.as_uri(), "/published/index.html", height=800)
    fifth = tab.locator("section.cohort:visible tbody tr").nth(4).bounding_box()
    assert fifth["y"] + fifth["height"] <= 800
    choose(tab, "Text generation")
    tab.get_by_role("link", name="distilbert/distilgpt2").click()
    tab.locator("a.label").first.click()
    assert tab.url.endswith(".svg")


@pytest.mark.parametrize("width", [1280, 1000, 500])
def test_bars_of_a_table_and_its_axis_share_one_scale(watch, sites, width):
    tab = watch(sites.as_uri(), "/published/index.html", width=width)
    ends = tab.evaluate(
        "Array.from(document.querySelectorAll('section.cohort:not([hidden]) svg'), svg => svg.getBoundingClientRect())"
        ".filter(box => box.width).map(box => [Math.round(box.left), Math.round(box.right)])"
    )
    assert len(ends) > 2
    assert len(set(map(tuple, ends))) == 1
    assert ends[0][1] - ends[0][0] > 60


def test_everything_is_reached_by_keyboard(open_page):
    tab = open_page("published/index.html")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the tables"
    tab.get_by_role("tab", selected=True).focus()
    for key, task in (("ArrowRight", "Image classification"), ("End", "Text generation"), ("Home", "Image captioning")):
        tab.keyboard.press(key)
        assert tab.get_by_role("tab", selected=True).inner_text().startswith(task)
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "search"
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.keyboard.type("git")
    assert len(names_of(tab)) == 2
    tab.locator("section.cohort:visible th.wh button").focus()
    tab.keyboard.press("Enter")
    assert tab.locator("section.cohort:visible th.wh").get_attribute("aria-sort") == "descending"
    tab.keyboard.press("Tab")
    while tab.evaluate("document.activeElement.type") != "checkbox":
        tab.keyboard.press("Tab")
    tab.keyboard.press("Space")
    assert tab.locator("input:checked").count() == 1
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/models/*.html")


def test_without_script_it_reads_whole(open_page):
    tab = open_page("published/index.html", java_script_enabled=False)
    assert tab.locator("section.cohort:visible").count() == 12
    assert rows(tab).count() == 166
    assert not tab.locator("form").is_visible()
    first = tab.get_by_role("table").first
    assert first.get_by_role("row").count() == 11
    assert first.get_by_role("rowheader").count() == 10
    assert first.get_by_role("cell").count() == 10 * 5
    tab.get_by_role("link", name="Text generation").click()
    tab.get_by_role("link", name="distilbert/distilgpt2").click()
    assert tab.locator("h1").inner_text() == "distilbert/distilgpt2"


@pytest.mark.parametrize("site", ["official", "published", "hostile"])
def test_a_phone_does_not_scroll_sideways(open_page, site, request, hostile_names, tmp_path, watch):
    made = request.getfixturevalue(site)
    name = {"official": "org/model-3", "published": "openai-community/gpt2", "hostile": hostile_names["long"]}[site]
    written, _ = statement.write(made, *page.find(made, name), emissions.grid_of(), tmp_path)
    tabs = {
        "index": open_page(f"{site}/index.html", **PHONE),
        "model": open_page(f"{site}/models/{text.slug(name)}.html", **PHONE),
        "budget": open_page(f"{site}/budget.html", **PHONE),
        "statement": watch(tmp_path.as_uri(), f"/{written.name}", **PHONE),
    }
    for kind, tab in tabs.items():
        assert tab.evaluate("document.documentElement.scrollWidth") <= 375, kind
        browser.shot(tab, f"leaderboard/phone-{site}-{kind}")
    for target in tabs["index"].locator("a:visible, button:visible, select:visible").all()[:40]:
        assert target.bounding_box()["height"] >= 24


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_dark_and_print(open_page, scheme):
    tab = open_page("published/index.html#task-text_generation", color_scheme=scheme)
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 150) == (scheme == "dark")
    browser.shot(tab, f"leaderboard/{scheme}")
    tab.emulate_media(media="print")
    assert tab.locator("section.cohort:visible").count() == 12


def test_hostile_names_do_nothing(open_page, hostile_names):
    tab = open_page("hostile/index.html")
    assert set(names_of(tab)) == {text.one_line(name) for name in hostile_names.values()}
    for n in range(4):
        rows(tab).get_by_role("checkbox").nth(n).check()
    tab.get_by_role("button", name="Model", exact=True).click()
    tab.get_by_label("Search").fill("<script>")
    assert names_of(tab) == [hostile_names["script"]]
    for name in hostile_names.values():
        tab.goto(tab.url.split("/index")[0].split("/models")[0] + f"/models/{text.slug(name)}.html")
        assert tab.title() == f"{text.one_line(name)}: energy rating"


def test_labels_are_drawn_inside(chrome, sites, published):
    tab = chrome.new_page(viewport={"width": 260, "height": 364})
    longest = sorted(published.rated(), key=lambda rated: len(rated[1].model))[-15:]
    labels = [sites / "published" / label.file_name(*rated) for rated in longest]
    for path in [*labels, *(path for site in ("official", "hostile") for path in (sites / site / "labels").iterdir())]:
        tab.set_content(f'<body style="margin:0">{path.read_text(encoding="utf-8")}')
        boxes = tab.evaluate(BOXES)
        assert min(box[0] for box in boxes) >= 14.5  # a glyph's own bearing may reach into the margin
        assert max(box[0] + box[2] for box in boxes) <= 245.5
        assert min(box[1] for box in boxes) >= 14.5
        assert max(box[1] + box[3] for box in boxes) <= 350
        browser.shot(tab, f"leaderboard/label-{path.stem}")
    tab.close()


@pytest.fixture
def served(sites):
    """Serve the leaderboards on the loopback under a strict content security policy."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def end_headers(self):
            self.send_header("Content-Security-Policy", STRICT)
            super().end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=sites))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_a_strict_policy_holds(open_page, served):
    tab = open_page("official/index.html", root=served)
    tab.get_by_role("button", name="Model", exact=True).click()
    tab.locator("#unit").select_option("J")
    rows(tab).get_by_role("checkbox").nth(0).check()
    tab.get_by_role("link", name="org/model-3").click()
    assert tab.locator(".label img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 260


def test_many_models_are_drawn_when_asked_for(watch, tmp_path):
    """More than 300 models are a long table."""
    lines = [f"qa,org/model-{n},{3.6 * (10 + n)},1,{s}" for n in range(301) for s in (0, 1)]
    (tmp_path / "t.csv").write_text("task,model,energy_j,queries,session\n" + "\n".join(lines))
    made = release.make([tmp_path / "t.csv"], name="crowd", date="2026-01-01", draws=100)
    site = leaderboard.build(made, tmp_path / "site", with_labels=False).parent.as_uri()
    tab = watch(site, "/index.html")
    assert tab.locator("section.cohort table").get_attribute("aria-rowcount") == "302"
    assert rows(tab).count() == 100
    tab.get_by_role("button", name="Show all 301").click()
    assert rows(tab).count() == 301
    assert not tab.locator(".more").is_visible()
    tab.get_by_label("Search").fill("model-300")
    assert names_of(tab) == ["org/model-300"]
    tab.get_by_label("Search").fill("")
    tab.get_by_role("button", name="Wh per 1,000 queries").click()
    assert names_of(tab)[0] == "org/model-300"
    assert watch(site, "/index.html", java_script_enabled=False).locator("tbody tr").count() == 301


def test_the_year_of_queries_is_the_sum_of_python_and_keeps_its_inputs(open_page, official):
    models = {name: page.find(official, name)[1] for name in ("org/model-1", "org/model-4")}
    made = [budget.budget(model, 5000, emissions.grid_of("FRA"), 1.3, 0.25) for model in models.values()]
    tab = open_page(f"official/models/{text.slug('org/model-1')}.html")
    tab.get_by_role("link", name="A year of queries").click()
    assert tab.locator("#a option:checked").inner_text() == "org/model-1"
    tab.locator("#b").select_option(label="org/model-4")
    tab.locator("#grid").select_option("FRA")
    for box, value in (("queries", "5000"), ("pue", "1.3"), ("price", "0.25")):
        tab.locator(f"#{box}").fill(value)
    rated, *shown = [row.locator("td").all_inner_texts() for row in tab.locator("#sums tbody tr").all()]
    assert all("measured by a hardware counter" in words for words in rated)
    assert open_page("official/budget.html#" + tab.url.partition("#")[2]).locator("#sums td").all_inner_texts() == [
        *rated, *(cell for row in shown for cell in row)
    ]  # fmt: skip
    for row, expected in zip(shown, zip(*made, strict=True), strict=True):
        for cell, values in zip(row, expected, strict=True):
            numbers = [float(found.replace(",", "")) for found in re.findall(r"[\d.,]*\d", cell)]
            assert numbers == pytest.approx(values, rel=0.006)
