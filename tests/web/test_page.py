"""The page in a real browser, against the real server."""

import contextlib
import json
import os
import time
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from sensorhub.control.troubles import advice
from sensorhub.verify.proof import parse_proof

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
REMEDY = "install it: apt-get install chromium chromium-driver (`make setup` does)"
PATIENCE_S = 120
FIRST = 1_481_500_800
HOUR = 3600


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """One headless browser for all tests of this file, with a profile of its own."""
    for program in (CHROMIUM, DRIVER):
        if not program.exists():
            pytest.fail(
                f"{program} is missing and the page is only believed in a browser; {REMEDY}", pytrace=False
            )
    options = Options()
    options.binary_location = str(CHROMIUM)
    for switch in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        f"user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    os.environ["SE_OFFLINE"] = "true"  # selenium must not look for browsers on the network
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


class Page:
    """What a visitor sees and does."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str, *, width: int = 1400, dark: bool = False) -> None:
        self.resize(width)
        self.scheme("dark" if dark else "light")
        self.driver.get("about:blank")
        self.driver.get(url)

    def resize(self, width: int) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
        )

    def scheme(self, name: str) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": name}]}
        )

    def all(self, css: str):
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def one(self, css: str):
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def text(self, css: str) -> str:
        return self.driver.execute_script(
            "const e = document.querySelector(arguments[0]); return e?.checkVisibility() ? e.innerText : ''",
            css,
        )

    def run(self, script: str, *arguments: object):
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition, what: str):
        def look(_driver):
            try:
                return condition()
            except Exception:
                return False

        return WebDriverWait(self.driver, PATIENCE_S, 0.1).until(look, f"never: {what}; {self.text('body')}")

    def wait_text(self, css: str, part: str) -> None:
        self.wait(lambda: part in self.text(css), f"{part!r} in {css}")

    def drawn(self) -> str:
        """The pixels of the chart."""
        return self.run("return document.querySelector('#chart canvas').toDataURL()")

    def nodes(self) -> list[str]:
        return self.run(
            "return [...document.querySelectorAll('#nodes tbody tr')].map((row) => row.dataset.key)"
        )

    def severe(self) -> list[dict]:
        return [entry for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture
def visited(page, serving):
    """Serves a site for as long as the page is open: one that went on asking would log that nobody answers."""

    @contextlib.contextmanager
    def serve(site, port: int = 0):
        with serving(site, port) as server:
            yield server
            page.driver.get("about:blank")

    return serve


@pytest.fixture
def page(chromium):
    """A page that must leave no error in the browser's console."""
    chromium.get("about:blank")
    chromium.get_log("browser")
    page = Page(chromium)
    yield page
    errors = page.severe()
    chromium.get("about:blank")
    assert errors == []


def quiet(page: Page) -> None:
    """Forgets what the browser itself logs of requests that were refused on purpose; fails on anything else."""
    assert [e for e in page.severe() if e["source"] != "network"] == []


def test_it_shows_nodes_facts_chart_and_newest_readings(page, beijing, beijing_server):
    page.open(beijing_server.url)
    page.wait_text("#chart-title", "PM2.5 in µg/m³ at aotizhongxin")
    assert page.nodes() == ["aotizhongxin", "changping", "dongsi", "dongsi-minutes"]
    assert page.text("h1") == "beijing\nrooftop"
    assert page.driver.title == "beijing · sensorhub"
    assert "7,625" in page.text("#facts")
    assert "no chain configured" in page.text("#facts")
    assert "2016-12-16 23:00" in page.text("#nodes tbody tr")
    assert len(page.all("#latest tbody tr")) == 12
    assert "ENE" in page.text("#latest tbody")
    page.wait_text("#pulse", "live")
    # its processes write their status all the time
    page.wait(lambda: beijing.settle() or page.text("#warnings") == "", "no warnings")
    elsewhere = page.run(
        "return performance.getEntriesByType('resource').map((r) => r.name)"
        ".filter((name) => new URL(name).origin !== location.origin)"
    )
    assert elsewhere == []


def test_choosing_another_node_changes_the_chart_by_mouse_and_keyboard(page, beijing_server):
    page.open(beijing_server.url)
    page.wait_text("#chart-title", "aotizhongxin")
    page.wait(lambda: page.all("#chart canvas"), "a chart")
    before = page.drawn()
    page.one("#nodes tr[data-key=changping] td:nth-child(2)").click()
    page.wait_text("#chart-title", "changping")
    page.wait(lambda: page.drawn() != before, "another chart")
    assert "149.0 µg/m³" in page.text("#latest")
    button = page.one("#nodes tr[data-key=dongsi] button")
    button.send_keys(Keys.ENTER)
    page.wait_text("#chart-title", "dongsi")
    assert page.one("#nodes tr.chosen").get_attribute("data-key") == "dongsi"
    assert button.get_attribute("aria-pressed") == "true"
    time.sleep(2.5)  # longer than a poll: the focus must survive the refresh
    assert page.driver.switch_to.active_element == button


def test_choosing_a_channel_or_span_changes_the_chart_and_a_reload_keeps_it(page, beijing_server):
    page.open(beijing_server.url)
    page.wait_text("#chart-title", "PM2.5")
    page.one("#latest tr[data-key=temperature] button").click()
    page.wait_text("#chart-title", "Air temperature in °C")
    assert Select(page.one("#channel")).first_selected_option.text == "Air temperature"
    Select(page.one("#channel")).select_by_visible_text("Wind direction")
    page.wait_text("#chart-title", "Wind direction at aotizhongxin")
    page.wait(lambda: page.all("#chart canvas"), "a chart")
    week = page.drawn()
    Select(page.one("#span")).select_by_visible_text("1 day")
    page.wait(lambda: page.drawn() != week, "a shorter span")
    page.driver.refresh()
    page.wait_text("#chart-title", "Wind direction at aotizhongxin")
    assert page.one("#span").get_attribute("value") == "86400"


def test_flagged_points_explain_themselves(page, beijing_server):
    page.open(beijing_server.url)
    page.wait_text("#legend", "1 flagged or scored below 0.5: range, spike")
    chart = page.one("#chart")
    chart.send_keys(Keys.HOME, *([Keys.ARROW_RIGHT] * 40))
    page.wait_text("#readout", "2016-12-13 16:00 UTC")
    readout = page.text("#readout")
    assert "985.0 µg/m³" in readout
    assert "score 0.08" in readout
    assert "spike" in readout
    assert "it changed faster than the quantity can" in readout


def test_a_long_series_is_drawn_with_its_band(page, beijing_server):
    page.open(f"{beijing_server.url}#node=dongsi-minutes&span=0")
    page.wait_text("#legend", "mean of 5 minutes")
    assert "lowest to highest" in page.text("#legend")
    page.one("#chart").send_keys(Keys.END)
    page.wait_text("#readout", "5 of 5 trusted")


def test_a_new_reading_appears_without_a_reload(page, site, visited):
    with visited(site) as server:
        page.open(server.url)
        page.wait_text("#chart-title", "aotizhongxin")
        page.wait(lambda: page.all("#chart canvas"), "a chart")
        page.run("window.stays = true")
        before = page.drawn()
        index = site.message("aotizhongxin", FIRST + 50 * HOUR, [("pm2_5", 321.0, 0.0)])
        site.settle()
        page.wait_text("#latest tr[data-key=pm2_5]", "321.0 µg/m³")
        assert "not judged yet" in page.text("#latest tr[data-key=pm2_5]")
        page.wait(lambda: page.drawn() != before, "the reading in the chart")
        site.judge({index: [(240, 0)]})
        site.enrol("balcony", kind="<img src=x onerror=alert(1)>")
        site.settle()
        page.wait_text("#latest tr[data-key=pm2_5]", "0.94")
        page.wait(lambda: page.nodes() == ["aotizhongxin", "balcony"], "the new node")
        assert "<img src=x" in page.text("#nodes")
        page.one("#nodes tr[data-key=balcony] button").click()
        page.wait_text("#chart", "This node has sent no readings yet.")
        assert page.run("return window.stays")


def test_a_reading_leads_to_its_proof(page, site, visited, tmp_path):
    page.driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    with visited(site) as server:
        page.open(server.url)
        page.wait(lambda: page.all("#latest a.value"), "newest readings")
        link = page.one("#latest tr[data-key=pm2_5] a.value")
        name = link.get_attribute("download")
        link.click()
        page.wait_text("#notice", f"Saved {name}")
        page.wait((tmp_path / name).exists, "the file")
        proof = parse_proof((tmp_path / name).read_bytes())
        assert name == f"proof-{proof.entry.index}.json"
        index = site.message("aotizhongxin", FIRST + 70 * HOUR, [("pm2_5", 1.0, 0.0)])
        site.log.commit()
        site.store.apply(list(site.reader.entries(site.store.cursor())))
        page.wait(
            lambda: (
                page.one("#latest tr[data-key=pm2_5] a.value").get_attribute("href").endswith(f"/{index}")
            ),
            "the newer reading",
        )
        page.one("#latest tr[data-key=pm2_5] a.value").click()
        page.wait_text("#notice", "no checkpoint covers entry")
        quiet(page)


CONTRAST = """
const rgb = (css) => css.match(/[0-9.]+/g).slice(0, 3).map(Number);
const light = (css) => rgb(css).map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const probe = document.createElement("i");
document.body.append(probe);
const of = (name) => { probe.style.color = `var(--${name})`; return light(getComputedStyle(probe).color); };
const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
const found = {};
for (const ink of ["ink", "soft", "accent", "bad", "warn"])
  for (const paper of ["card", "paper"]) found[`${ink} on ${paper}`] = ratio(of(ink), of(paper));
probe.remove();
return { found, paper: light(getComputedStyle(document.body).backgroundColor) };
"""


def test_light_and_dark_are_both_readable_and_follow_the_system(page, beijing_server):
    page.open(beijing_server.url)
    page.wait(lambda: page.all("#chart canvas"), "a chart")
    light = page.run(CONTRAST)
    drawn = page.drawn()
    page.scheme("dark")
    page.wait(lambda: page.drawn() != drawn, "a redrawn chart")
    dark = page.run(CONTRAST)
    assert dark["paper"] < 0.05 < 0.8 < light["paper"]
    for scheme in (light, dark):
        assert {name: ratio for name, ratio in scheme["found"].items() if ratio < 4.5} == {}


def test_nothing_is_cut_off_at_any_width(page, beijing_server):
    page.open(beijing_server.url, width=390)
    page.wait(lambda: page.all("#chart canvas"), "a chart")
    for width in (390, 320, 768, 1000, 1400, 2200):
        page.resize(width)
        page.wait(
            lambda: page.run(
                "const chart = document.querySelector('#chart');"
                "return Math.abs(chart.querySelector('canvas').getBoundingClientRect().width - chart.clientWidth) < 2"
            ),
            f"a chart as wide as its place at {width}",
        )
        assert page.run("return document.documentElement.scrollWidth") <= width
        if width >= 390:
            too_wide = page.run(
                "return [...document.querySelectorAll('.scroll')].filter((e) => e.scrollWidth > e.clientWidth + 1)"
                ".map((e) => [e.querySelector('table').id, e.scrollWidth, e.clientWidth])"
            )
            assert too_wide == [], width


def test_it_waits_for_a_gateway_that_starts_and_then_goes_on(page, empty, visited):
    with visited(empty) as server:
        page.open(server.url)
        page.wait_text("#waiting", "The gateway is starting, its log has not been begun")
        assert "starting" in page.text("#pulse")
        quiet(page)
        empty.begin()
        page.wait_text("#no-nodes", "No node has joined yet")
        assert page.text("#waiting") == ""
        quiet(page)
        empty.replay("Dongsi", 30)
        empty.settle()
        page.wait_text("#chart-title", "PM2.5 in µg/m³ at dongsi")
        page.wait(lambda: page.all("#chart canvas"), "a chart")


def test_a_gateway_that_goes_away_is_said_and_its_return_noticed(page, site, serving, visited, free_port):
    port = free_port()
    with serving(site, port) as server:
        page.open(server.url)
        page.wait(lambda: page.all("#chart canvas"), "a chart")
    page.wait_text("#pulse", "no answer since")
    assert page.nodes() == ["aotizhongxin"], "what was last known stays"
    with visited(site, port):
        page.wait_text("#pulse", "live")
        quiet(page)


def test_a_silent_process_is_warned_of(page, site, visited):
    path = site.data_dir / "status" / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "updated_ms": 1}))
    with visited(site) as server:
        page.open(server.url)
        page.wait_text("#warnings", "store: no sign of life for")
        page.wait(lambda: site.settle() or page.text("#warnings") == "", "the warning to go")


def test_a_node_in_trouble_is_marked_and_the_warning_says_what_to_do(page, site, visited):
    def report(**said) -> None:
        nodes = {"aotizhongxin": said}
        site.report("control", nodes=nodes, warnings=list(advice(nodes)))

    report(state="offline", spool="memory", troubles=["messages in RAM"])
    with visited(site) as server:
        page.open(server.url)
        page.wait_text("#warnings", "aotizhongxin: messages in RAM:")
        assert "a power cut" in page.text("#warnings")
        assert "tools/flash --erase" in page.text("#warnings")
        assert page.text("#nodes tbody button").split("\n") == [
            "aotizhongxin",
            "weather · offline",
            "messages in RAM",
        ]
        report(state="online", troubles=[])
        page.wait(lambda: page.text("#warnings") == "", "the warning to go")
        assert page.text("#nodes tbody button").split("\n") == ["aotizhongxin", "weather"]
        report(state="<b>gone</b>" * 9, troubles=[])
        site.message("aotizhongxin", FIRST + 200 * HOUR, [("pm2_5", 5.0, 0.0)])
        site.settle()
        page.wait_text("#nodes tbody tr", "2016-12-20 08:00")
        assert page.text("#nodes tbody button").split("\n") == ["aotizhongxin", "weather"]


def test_without_the_chart_library_the_tables_still_work(page, site, visited):
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*uPlot.esm.js"]})
    try:
        with visited(site) as server:
            page.open(server.url)
            page.wait_text("#chart", "npm run vendor")
            assert len(page.all("#latest tbody tr")) == 12
            quiet(page)
    finally:
        page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
        page.driver.execute_cdp_cmd("Network.disable", {})


def test_a_click_on_the_chart_says_why_in_words_and_as_a_picture(page, beijing_server):
    page.open(beijing_server.url + "#node=aotizhongxin&channel=pm2_5&span=0")
    page.wait_text("#chart-title", "PM2.5")
    page.run("document.querySelector('#chart').focus()")
    page.one("#chart").send_keys(Keys.HOME, Keys.ENTER)
    page.wait_text("#why-title", "Why? PM2.5 of aotizhongxin, 2016-12-12 00:00 UTC")
    page.wait_text("#why-words", "PM2.5 of aotizhongxin was")
    assert "log's verdict" in page.text("#why-words")
    drawn = "const i = document.querySelector('#why-picture'); return i.complete && i.naturalWidth > 300"
    page.wait(lambda: page.run(drawn), "the picture is drawn")
    page.one("#why-close").click()
    assert page.text("#why") == ""
    page.one("#latest tbody tr .score button").click()
    page.wait_text("#why-words", "of aotizhongxin was")
    page.one("#nodes tbody tr[data-key=changping] button").click()
    page.wait(lambda: page.text("#why") == "", "another node closes it")


def test_each_day_of_a_node_tells_how_it_was_judged(page, beijing_server):
    page.open(beijing_server.url)
    page.wait_text("#days-title", "Trusted by day 2016-11-19 to 2016-12-16")
    assert len(page.all("#days tr")) == 4
    assert len(page.all("#days tr:first-child .day")) == 28
    days = page.all("#days tr:first-child .day:not(.unknown)")
    assert len(days) == 5
    page.run("arguments[0].scrollIntoView()", days[1])
    days[1].click()
    page.wait_text("#day-words", "aotizhongxin, 2016-12-13: 99.6 % of 285 trusted")
    assert "spike 1" in page.text("#day-words")
    empty = page.one("#days tr:first-child .day.unknown")
    assert empty.get_attribute("title").endswith("no readings")
    colours = page.run(
        "return [...document.querySelectorAll('#days tr:first-child .day')].map((d) => getComputedStyle(d).backgroundColor)"
    )
    assert len(set(colours)) >= 3
