"""The fleet page in a real browser: Debian's Chromium, driven by Playwright."""

import json
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import quote

import psycopg
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from amp_workers.admin.page.durations import age_text
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from tests.admin.page.outage import Outage
from tests.conftest import fresh_database
from tests.processes import Process, Processes, eventually, free_port, get, tool

pytestmark = pytest.mark.slow

MILLISECONDS = 60_000
"""The timeout of each browser operation, for a busy machine."""

AXE = (files("axe_playwright_python") / "axe.min.js").read_text()

STATIC = 250
"""The number of stopped workers: more than one page."""


class Served:
    """A metadata DB, and an Admin API that serves the page from it."""

    def __init__(self, database: str, postgres: EmbeddedPostgres, processes: Processes) -> None:
        self.database, self.processes = database, processes
        self.outage = Outage(postgres, database)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.start()

    def start(self) -> None:
        thresholds = ("--stale-after=3s", "--lost-after=8s")
        options = (f"--web.listen-address=127.0.0.1:{self.port}", *thresholds)
        self.process = self.processes.ampd("admin", *options, database=self.database)
        eventually(lambda: get(f"{self.url}-/healthy"))

    def sql(self, statement: str, *parameters: object) -> None:
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute(statement.encode(), parameters)

    def insert(self, node_id: str, **info: Any) -> None:
        """Insert a worker that was stopped on purpose: its state does not change."""
        stopped = {"stopped_at": "2999-01-01T00:00:00Z"}
        self.sql(
            "INSERT INTO workers (node_id, heartbeat_at, info, created_at, registered_at) "
            "VALUES (%s, now(), %s, now(), now())",
            *(node_id, json.dumps(stopped | info)),
        )


@pytest.fixture(scope="module")
def served(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    processes = Processes(tmp_path_factory.mktemp("page"), forks_ampd=True)
    with fresh_database(postgres) as database:
        made = Served(database, postgres, processes)
        made.sql(
            "INSERT INTO workers (node_id, heartbeat_at, info, created_at, registered_at) "
            "SELECT 'static-' || to_char(number, 'FM000'), now(), jsonb_build_object('stopped_at', "
            "'2999-01-01T00:00:00Z', 'version', CASE number WHEN 0 THEN 'v2' ELSE 'v1' END), now(), now() "
            "FROM generate_series(0, %s) number",
            STATIC - 1,
        )
        yield made
        processes.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or tool("chromium-headless-shell")
    with sync_playwright() as playwright:
        # Chromium's own sandbox needs an account that is not root.
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


class Opened(NamedTuple):
    """Opens each page in its own browser context, and collects the errors of the pages."""

    browser: Browser
    contexts: list[BrowserContext]
    wrong: list[str]

    def page(self, url: str, **options: Any) -> Page:
        context = self.browser.new_context(**options)
        context.set_default_timeout(MILLISECONDS)
        self.contexts.append(context)
        context.add_init_script(INSTRUMENTS)
        page = context.new_page()
        page.on("pageerror", lambda error: self.wrong.append(f"{error}"))
        page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))
        page.on("console", lambda message: self._hear(message.text))
        page.on("request", lambda request: self._look_at(request.url))
        page.goto(url)
        return page

    def _hear(self, text: str) -> None:
        if "Content Security Policy" in text or "Uncaught" in text:
            self.wrong.append(text)

    def _look_at(self, url: str) -> None:
        if not url.startswith(("http://127.0.0.1:", "data:")):
            self.wrong.append(f"a request to {url}")


INSTRUMENTS = """
window.shifts = [];
new PerformanceObserver((list) => window.shifts.push(
  ...list.getEntries().map((each) => each.sources.map((moved) => moved.node?.textContent ?? "")),
)).observe({type: "layout-shift", buffered: true});
window.heard = [];
addEventListener("DOMContentLoaded", () => {
  const region = document.querySelector("[role=status]");
  new MutationObserver(() => window.heard.push(region.textContent)).observe(region, {childList: true});
});
Date.now = () => 0;
"""
"""Records which texts move in a layout shift, and what a screen reader announces. Sets the browser's clock wrong."""


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    expect.set_options(timeout=MILLISECONDS)
    made = Opened(browser, [], [])
    yield made
    for context in made.contexts:
        context.close()
    assert not made.wrong


def row(page: Page, node_id: str) -> Locator:
    return page.locator("tbody tr").filter(has=page.locator(f'a[title="{node_id}"]'))


def state(page: Page, node_id: str) -> Locator:
    return row(page, node_id).locator("td.state")


def insert_and_wait(served: Served, node_id: str) -> None:
    """Insert a worker, and wait until the server shows it."""
    served.insert(node_id)
    eventually(lambda: node_id in get(f"{served.url}?node_id={node_id}"))


@pytest.mark.timeout(240)
def test_a_fleet_that_changes_while_the_page_is_open(served: Served, opened: Opened, processes: Processes) -> None:
    def worker(node_id: str, *arguments: str) -> Process:
        return processes.ampd("worker", "--node-id", node_id, *arguments, database=served.database)

    killed, frozen, again = map(worker, ("killed", "frozen", "again"))
    page = opened.page(f"{served.url}?node_id=killed,frozen,again,crash,hang")
    for name in ("killed", "frozen", "again"):
        expect(state(page, name)).to_have_text("active")
    page.evaluate("window.stays = true")

    worker("crash", "--", "sh", "-c", "exit 7")
    worker("hang", "--watchdog", "1", "--", "sleep", "600")
    killed.signal(signal.SIGKILL)
    again.signal(signal.SIGKILL)
    frozen.freeze()
    for name, expected in {"crash": "failed", "hang": "stuck", "killed": "lost", "frozen": "lost"}.items():
        expect(state(page, name)).to_have_text(expected)
    expect(row(page, "crash").locator("td.status")).to_have_text("exit code 7")
    expect(row(page, "hang").locator("td.status")).to_contain_text("no progress for ")
    expect(page.locator("tbody tr").first).to_have_class("failed")
    expect(page.locator("#state-failed b")).to_have_text("1")

    worker("again")
    frozen.signal(signal.SIGCONT)
    for name in ("again", "frozen"):
        expect(state(page, name)).to_have_text("active")
    assert page.evaluate("window.stays")
    assert any("failed: 1, was 0" in heard for heard in page.evaluate("window.heard"))
    assert page.evaluate("window.shifts") == []


def test_the_script_writes_ages_as_the_server_does(served: Served, opened: Opened) -> None:
    ages = {
        f"age-{number}": age for number, age in enumerate((0, 58, 3_598, 3_661, 86_398, 90_000, 864_000, -30, -7_300))
    }
    for node_id, age in ages.items():
        served.sql(
            "INSERT INTO workers (node_id, heartbeat_at, created_at, registered_at) "
            "VALUES (%s, clock_timestamp() - make_interval(secs => %s), now(), now())",
            *(node_id, age),
        )
    eventually(lambda: get(f"{served.url}?node_id=age-*").count('<a id="w/age-') == len(ages))
    page = opened.page(f"{served.url}?node_id=age-*")
    first = row(page, "age-0").locator("td.heartbeat").inner_text()
    expect(row(page, "age-0").locator("td.heartbeat")).not_to_have_text(first)  # the script has written them all
    # At one moment, because the page replaces its elements.
    shown = page.evaluate(
        "[...document.querySelectorAll('td.heartbeat span')].map((each) => [each.dataset.seconds, each.textContent])"
    )
    assert len(shown) == len(ages)
    for began, text in shown:
        assert text in {age_text(float(began) + elapsed / 4) for elapsed in range(240)}
    served.sql("DELETE FROM workers WHERE node_id LIKE 'age-%%'")


def test_filters_pages_and_deep_links(served: Served, opened: Opened) -> None:
    page = opened.page(served.url)
    page.locator("#search").fill("static-*")
    page.locator("#search").press("Enter")
    expect(page.locator("#workers")).to_contain_text(f"1 to 200 of {STATIC}")
    page.locator("#sort-node_id").click()
    page.locator("#page-next").click()
    expect(page.locator("tbody tr").first).to_contain_text("static-200")
    expect(page.locator("tbody tr")).to_have_count(STATIC - 200)
    url = page.url
    assert url == f"{served.url}?node_id=static-*&sort=node_id&page=2"

    deep = opened.page(url)
    expect(deep.locator("tbody tr").first).to_contain_text("static-200")
    deep.locator("#state-failed").click()
    expect(deep.locator("tbody")).to_contain_text("No worker matches the filters.")
    deep.locator("#state-failed").click()
    expect(deep.locator("#workers")).to_contain_text(f"of {STATIC}")


def test_the_page_can_be_used_with_the_keyboard_alone(served: Served, opened: Opened) -> None:
    page = opened.page(f"{served.url}?sort=node_id")
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("static-00?")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(10)
    for key, node_id in (("j", "static-000"), ("j", "static-001"), ("j", "static-002"), ("k", "static-001")):
        page.keyboard.press(key)
        expect(page.locator(f'a[title="{node_id}"]')).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#worker")).to_have_text("static-001")
    assert page.url == f"{served.url}w/static-001"


def test_a_refresh_keeps_scroll_position_focus_and_what_is_typed(served: Served, opened: Opened) -> None:
    page = opened.page(f"{served.url}?node_id=static-*,kept-*&sort=node_id", viewport={"width": 1280, "height": 600})
    row(page, "static-150").locator("a").focus()
    top = page.evaluate("scrollY")
    assert top > 0
    served.insert("kept-1")
    expect(page.locator("#workers")).to_contain_text(f"of {STATIC + 1}")
    assert page.evaluate("scrollY") == top
    expect(row(page, "static-150").locator("a")).to_be_focused()
    page.locator("#search").fill("half a wo")
    served.insert("kept-2")
    expect(page.locator("#workers")).to_contain_text(f"of {STATIC + 2}")
    expect(page.locator("#search")).to_have_value("half a wo")
    expect(page.locator("#search")).to_be_focused()
    assert page.evaluate("window.shifts") == []


def test_selected_text_pauses_the_page(served: Served, opened: Opened) -> None:
    page = opened.page(f"{served.url}?node_id=static-00?,selected")
    page.evaluate("getSelection().selectAllChildren(document.querySelector('a[title=static-003]'))")
    insert_and_wait(served, "selected")
    # Long enough for the page to send another request, unless it is paused.
    expect(page.locator("#reading")).to_contain_text("Paused while text is selected.")
    assert page.evaluate("`${getSelection()}`") == "static-003"
    expect(row(page, "selected")).to_have_count(0)
    expect(page.locator("main")).to_have_class("outdated")
    page.evaluate("getSelection().empty()")
    expect(row(page, "selected")).to_have_count(1)
    expect(page.locator("main")).not_to_have_class("outdated")
    page.evaluate("getSelection().selectAllChildren(document.body)")
    expect(page.locator("#reading p").first).to_have_text(
        re.compile(r"^Paused while text is selected\. The page shows the answer of 1\ds ago$"), timeout=15_000
    )


def set_hidden(page: Page, *, hidden: bool) -> None:
    """Make a tab behave as a hidden one: headless Chromium shows all tabs."""
    page.evaluate(
        "(hidden) => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange')); }",
        hidden,
    )


def test_a_tab_that_is_shown_again_is_grey_until_its_first_answer(served: Served, opened: Opened) -> None:
    page = opened.page(f"{served.url}?node_id=static-00?,hidden")
    set_hidden(page, hidden=True)
    expect(page).to_have_title("outdated · Amp workers")
    requests = list[str]()
    page.on("request", lambda request: requests.append(request.url))
    insert_and_wait(served, "hidden")
    expect(row(page, "hidden")).to_have_count(0)
    with frozen_process(served.process):
        set_hidden(page, hidden=False)
        expect(page.locator("main")).to_have_class("outdated")
        expect(page.locator("#reading")).to_contain_text("Waiting for the first answer since this tab was shown.")
        assert len(requests) <= 1
    expect(row(page, "hidden")).to_have_count(1)
    expect(page.locator("main")).not_to_have_class("outdated")


@contextmanager
def frozen_process(process: Process) -> Iterator[None]:
    process.freeze()
    try:
        yield
    finally:
        process.signal(signal.SIGCONT)


def violations(page: Page) -> list[str]:
    """The violations that axe-core finds, with the elements concerned."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run().then((results) => results.violations)")
    return [f"{each['id']}: {[node['html'] for node in each['nodes']][:5]}" for each in found]


def test_an_unavailable_api(served: Served, opened: Opened) -> None:
    page = opened.page(f"{served.url}?node_id=static-00?")
    assert served.process.stop() == 0
    expect(page.locator("#reading")).to_contain_text("The Admin API does not answer.")
    expect(page.locator("main")).to_have_class("outdated")
    expect(page.locator("tbody tr")).to_have_count(10)
    served.start()
    expect(page.locator("#reading")).to_contain_text("As of ")
    expect(page.locator("main")).not_to_have_class("outdated")


def test_an_outage_of_the_metadata_db(served: Served, opened: Opened) -> None:
    page = opened.page(f"{served.url}?node_id=static-00?")
    light = page.locator("td.node_id a").first.evaluate("(link) => getComputedStyle(link).color")
    served.outage.begin()
    try:
        expect(page.locator("#reading")).to_contain_text("The metadata DB has been unavailable for at least")
        expect(page.locator("#reading")).to_contain_text("The page shows the workers as of ")
        expect(page.locator("tbody tr")).to_have_count(10)
        assert page.locator("td.node_id a").first.evaluate("(link) => getComputedStyle(link).color") != light
        assert any("unavailable" in heard for heard in page.evaluate("window.heard"))
        assert not violations(page)
    finally:
        served.outage.end()
    expect(page.locator("#reading")).to_contain_text("As of ")
    # From 9 to 10 seconds of an outage, what follows in the line moves by a digit, and nothing else moves.
    moved = [text for texts in page.evaluate("window.shifts") for text in texts]
    assert all(text.startswith(". The page shows the workers as of ") for text in moved)


def test_without_javascript(served: Served, opened: Opened) -> None:
    page = opened.page(f"{served.url}?node_id=static-00?,plain", java_script_enabled=False)
    expect(page.locator("tbody tr")).to_have_count(10)
    served.insert("plain")
    expect(row(page, "plain")).to_have_count(1)
    page.locator("#sort-node_id").click()
    row(page, "static-007").locator("a").click()
    expect(page.locator("#worker")).to_have_text("static-007")


HOSTILE = {
    "<script>alert(1)</script>": {"version": "<img src=x onerror=alert(1)>", "progress": "<b>bold</b>"},
    "\u202eright-to-left": {"version": "\u202ev1", "progress": "مرحبا بالعالم"},
    "w" * 200: {"version": "v" * 200, "progress": "p" * 200},
    "🚀" * 50: {"version": "🔥", "progress": "🧨" * 100},
    "a/b?c=d#e%2F": {"progress": "\u2028line"},
}


def test_hostile_texts(served: Served, opened: Opened) -> None:
    for node_id, info in HOSTILE.items():
        served.insert(node_id, **info)
    globs = quote("<*,\u202e*,www*,🚀*,a/*")
    url = f"{served.url}?node_id={globs}"
    eventually(lambda: get(url).count('<a id="w/') == len(HOSTILE))
    page = opened.page(url)
    for width in (390, 1280, 3840):
        page.set_viewport_size({"width": width, "height": 900})
        for node_id in HOSTILE:
            expect(page.locator("td.node_id a").filter(has_text=node_id)).to_have_text(node_id)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.set_viewport_size({"width": 390, "height": 900})
    for node_id in HOSTILE:
        page.locator("td.node_id a").filter(has_text=node_id).click()
        expect(page.locator("#worker")).to_have_text(node_id)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.go_back()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(served: Served, opened: Opened, scheme: str) -> None:
    page = opened.page(f"{served.url}?sort=node_id&page=2", color_scheme=scheme)
    for path in ("?node_id=static-00?&version=v1", "?node_id=nobody", "w/static-001", "w/nobody", "?sort=age"):
        assert not violations(page)
        page.goto(f"{served.url}{path}")
    assert not violations(page)


def test_a_browser_that_is_logged_out(served: Served, opened: Opened, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("the-first-token-of-an-operator\n")
    tokens.chmod(0o600)
    port = free_port()
    url = f"http://127.0.0.1:{port}/?node_id=static-00?"
    served.processes.ampd(
        *("admin", f"--web.listen-address=127.0.0.1:{port}", f"--auth-token-file={tokens}"), database=served.database
    )
    eventually(lambda: get(f"http://127.0.0.1:{port}/-/ready"))
    with pytest.raises(HTTPError) as refused:
        get(url)
    assert refused.value.code == 401
    assert refused.value.headers.get_content_type() == "text/html"
    assert any(value.startswith("Basic ") for value in refused.value.headers.get_all("WWW-Authenticate", []))
    page = opened.page(url, http_credentials={"username": "token", "password": "the-first-token-of-an-operator"})
    expect(page.locator("tbody tr")).to_have_count(10)
    tokens.write_text("another-token-of-an-operator\n")
    expect(page.locator("#reading")).to_contain_text("The Admin API answers with status 401.")
    expect(page.locator("main")).to_have_class("outdated")


def test_a_command_is_copied(served: Served, opened: Opened) -> None:
    page = opened.page(f"{served.url}w/static-001", permissions=["clipboard-read", "clipboard-write"])
    page.locator("#copy-1").click()
    expect(page.locator("#copy-1")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "ampctl worker inspect static-001"
