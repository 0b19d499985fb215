"""The dashboard in a real browser against a live service; skipped where there is no Chromium."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dashboard_world import HOSTILE, hostile, learnt

from isthmus.online.log import open_log
from isthmus.serving.keys import add_key
from isthmus.serving.pages.rendering import PAGES

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("no chromium on this machine", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

WAIT = 60_000
"""Milliseconds; machines may be busy."""
PHONE, DESK = {"width": 375, "height": 740}, {"width": 1200, "height": 900}


@dataclass(frozen=True)
class Live:
    """A service in a process of its own."""

    address: str
    key: str
    folder: Path


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("dashboard")
    log = open_log(folder / "events.db")
    learnt(folder / "model", log)
    log.close()
    _, key = add_key(folder / "keys.json", ["admin"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "isthmus", "serve", "--model", str(folder / "model")),
            *("--log", str(folder / "events.db"), "--port", str(port)),
            *("--keys", str(folder / "keys.json"), "--exports", str(folder / "exports")),
        ],
        stdout=subprocess.DEVNULL,
        stderr=(folder / "said").open("w"),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    found = Live(f"http://127.0.0.1:{port}", key, folder)
    deadline = time.monotonic() + 180
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{found.address}/v1/ready", timeout=5).close()
            break
        except OSError:
            time.sleep(0.2)
    assert process.poll() is None, (folder / "said").read_text()
    yield found
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert "Traceback" not in (folder / "said").read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(
            executable_path=CHROMIUM,
            timeout=WAIT,
            args=[
                *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
                *("--disable-component-update", "--disable-sync", "--no-first-run"),
            ],
        )
        yield started
        started.close()


@dataclass
class Tab:
    """A page that remembers what went wrong on it."""

    page: Any
    live: Live
    errors: list[str]

    def go(self, path: str) -> None:
        self.page.goto(self.live.address + path, wait_until="load")

    def sign_in(self) -> None:
        self.go("/sign-in")
        self.page.fill("#key", self.live.key)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url(f"{self.live.address}/")


def opened(browser: Any, live: Live, size: dict[str, int], scheme: str) -> Tab:
    context = browser.new_context(viewport=size, color_scheme=scheme)
    context.set_default_timeout(WAIT)
    page = context.new_page()
    tab = Tab(page, live, [])
    # Warnings too: a browser tells of what a policy has blocked in either way.
    page.on(
        "console",
        lambda said: said.type in ("error", "warning") and tab.errors.append(said.text),
    )
    page.on("pageerror", lambda error: tab.errors.append(str(error)))
    page.on("dialog", lambda dialog: (tab.errors.append("a dialog"), dialog.dismiss()))
    page.on(
        "request",
        lambda asked: (
            asked.url.startswith((live.address, "data:", "blob:"))
            or tab.errors.append(f"asked elsewhere: {asked.url}")
        ),
    )
    return tab


@pytest.mark.parametrize(("size", "scheme"), [(DESK, "light"), (DESK, "dark"), (PHONE, "dark")])
def test_every_page_loads_without_a_console_error(
    browser: Any, live: Live, size: dict[str, int], scheme: str
) -> None:
    tab = opened(browser, live, size, scheme)
    tab.sign_in()
    for path, name in PAGES:
        tab.go(path)
        assert tab.page.title() == f"{name} · Isthmus"
        for holder in tab.page.query_selector_all(".chart > div"):
            # Every chart was drawn.
            assert holder.query_selector("svg.main-svg") is not None, path
        # Wide tables scroll within themselves; the page does not.
        wide = tab.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide <= 0, path
        assert tab.page.title() != "run"
    tab.page.context.close()
    assert tab.errors == []


def test_a_click_changes_the_list_without_a_reload(browser: Any, live: Live) -> None:
    tab = opened(browser, live, DESK, "light")
    tab.sign_in()
    page = tab.page
    tab.go("/try")
    page.evaluate("window.stayed = true")
    dataset = hostile().dataset
    busiest = int(np.diff(dataset.events.offsets).argmax())
    person = dataset.user_ids[busiest]
    page.fill("#user", person[:2])
    page.wait_for_selector("#people option", state="attached")
    page.fill("#user", person)
    page.keyboard.press("Enter")
    page.wait_for_selector("#list li")
    before = [row.get_attribute("data-item") for row in page.query_selector_all("#list > li")]
    assert len(before) == 10
    assert all(row.inner_text() for row in page.query_selector_all("#list .why"))
    page.focus("#list li:nth-child(2) button")
    page.keyboard.press("Enter")
    page.wait_for_selector('#status:has-text("Recorded “")')
    after = [row.get_attribute("data-item") for row in page.query_selector_all("#list > li")]
    assert before[1] not in after
    assert after != before
    assert page.evaluate("window.stayed")
    newest = page.inner_text("#history li:first-child")
    log = open_log(live.folder / "events.db")
    logged = log.history(person)
    log.close()
    assert [event.item_id for event in logged] == [before[1]]
    assert logged[0].recommendation_id
    shelf = dataset.domains[0].items.to_dicts()
    title = next(item["title"] or item["item_id"] for item in shelf if item["item_id"] == before[1])
    assert newest.startswith(title)
    page.context.close()
    assert tab.errors == []


def test_somebody_described_by_items_gets_a_list_and_clicks(browser: Any, live: Live) -> None:
    tab = opened(browser, live, PHONE, "light")
    tab.sign_in()
    page = tab.page
    tab.go("/try")
    page.check("input[value=described]")
    page.fill("#words", "script")
    page.wait_for_selector("#found button")
    # What looks like HTML is text, in the list of what was found and everywhere after.
    assert page.inner_text("#found li:first-child button").startswith(HOSTILE)
    page.click("#found li:first-child button")
    page.wait_for_selector("#list li")
    assert HOSTILE in page.inner_text("#history")
    page.click("#list li:first-child button")
    page.wait_for_selector('#status:has-text("Recorded “")')
    assert page.inner_text("#history").startswith("2 events")
    assert page.query_selector("main script:not([type]), main img") is None
    page.context.close()
    assert tab.errors == []


def test_a_version_is_promoted_and_rolled_back(browser: Any, live: Live) -> None:
    tab = opened(browser, live, DESK, "light")
    tab.sign_in()
    page = tab.page
    tab.go("/models")
    assert page.inner_text(".tag.champion >> nth=0") == "champion"
    page.click("button[aria-label='Promote v000003']")
    page.wait_for_selector("tr:has(th:text('v000003')) .tag.champion")
    page.click("text=Roll back")
    page.wait_for_selector("tr:has(th:text('v000002')) .tag.champion")
    page.context.close()
    assert tab.errors == []
