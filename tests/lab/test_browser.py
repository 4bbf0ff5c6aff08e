"""The Lab in Chromium, with JavaScript and without, served by gunicorn with two workers."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from tests.conftest import migrate
from tests.factories import SECRET
from tests.gateways.bank import free_port

ROOT = Path(__file__).resolve().parents[2]
QUIET = (
    "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --disable-quic"
).split()

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def lab_url() -> Iterator[str]:
    """Yield the URL of a shop with two workers, whose Lab has a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="lab-"))
    migrate(f"sqlite:///{folder}/shop.sqlite")
    url = f"http://127.0.0.1:{free_port()}"
    env = {
        **os.environ, "SECRET_KEY": SECRET, "DATABASE_URL": f"sqlite:///{folder}/shop.sqlite", "TMPDIR": str(folder),
        "PORT": url.rpartition(":")[2], "WEB_CONCURRENCY": "2", "LAB": "on",
    }  # fmt: skip
    command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
    shop = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL)
    end = monotonic() + 60
    while not _ready(url):
        assert monotonic() < end
        sleep(0.1)
    yield url
    shop.terminate()
    shop.wait(40)
    shutil.rmtree(folder, ignore_errors=True)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    """Return the options that start Debian's Chromium without background connections."""
    from setup.chromium import find

    return {"executable_path": str(find()), "args": QUIET}


@pytest.fixture(params=["script", "no script"])
def page(request: pytest.FixtureRequest, browser: Any, lab_url: str) -> Iterator[Any]:
    """Yield a visitor's tab. A message on the console or a request to another host fails the test."""
    context = browser.new_context(base_url=lab_url, java_script_enabled=request.param == "script")
    context.set_default_timeout(60_000)
    page, problems = context.new_page(), []
    page.on("console", lambda message: problems.append(message.text))
    page.on("request", lambda sent: sent.url.startswith(lab_url) or problems.append(sent.url))
    yield page
    context.close()
    assert problems == []


def test_a_row_can_be_played_and_a_result_opened(page: Any) -> None:
    page.goto("/lab")
    page.get_by_role("button", name="Play row PRG only").click()
    page.locator("#cell-2-9 a").wait_for()
    assert page.locator("a.result.red").count() == 8
    assert page.locator("a.result.green").count() == 1
    page.get_by_role("button", name="Play all 63 scenes").wait_for()
    page.locator("#cell-2-3 a").click()
    assert "The bank took the money twice" in page.locator("main").inner_text()
    assert page.locator("svg.drawing .again").count() == 1


def test_a_visitor_sees_only_the_results_of_their_own_runs(page: Any, browser: Any, lab_url: str) -> None:
    other_context = browser.new_context(base_url=lab_url)
    other_page = other_context.new_page()
    other_page.goto("/lab")
    other_page.get_by_role("button", name="Play row None").click()
    other_context.close()
    page.goto("/lab")
    page.get_by_role("button", name="Reload against PayOnce").click()
    page.locator("#cell-7-1 a.green").wait_for()
    assert page.locator("a.result").count() == 1, "the other visitor's results are not shown"


def test_the_statement_beside_a_shop_shows_each_charge(page: Any, request: pytest.FixtureRequest) -> None:
    page.goto("/lab/try/2/")
    page.get_by_role("button", name="Pay €24.00").click(click_count=2, delay=100)
    page.wait_for_url("**/receipts/*")
    for _ in range(20):
        page.reload()  # The page is the response to a GET, so the reload moves no money.
        if page.locator(".movements li.again").count():
            break
        sleep(0.25)
    assert page.locator(".movements li").count() == 2
    page.get_by_role("button", name="Start over").click()
    page.get_by_text("No money was taken yet.").wait_for()


def test_only_a_script_stops_the_second_click(page: Any, request: pytest.FixtureRequest) -> None:
    scripted = "no script" not in request.node.name
    posts: list[str] = []
    page.on("request", lambda sent: posts.append(sent.url) if sent.method == "POST" else None)
    page.goto("/lab/try/3/")
    page.get_by_role("button", name="Pay €24.00").click(click_count=2, delay=100)
    page.wait_for_url("**/receipts/*")
    assert len(posts) == (1 if scripted else 2)
    for _ in range(20):
        if page.locator(".movements li").count() == len(posts):
            break
        sleep(0.25)
        page.reload()
    assert page.locator(".movements li").count() == len(posts)


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_no_page_scrolls_horizontally(browser: Any, lab_url: str, width: int) -> None:
    context = browser.new_context(base_url=lab_url, viewport={"width": width, "height": 800})
    page = context.new_page()
    for path in ("/lab", "/lab/try/2/", "/lab/try/7/", "/lab/bank/2", "/lab/code/app/charges/protocol.py"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violations(browser: Any, lab_url: str, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(base_url=lab_url, color_scheme=scheme)
    page = context.new_page()
    page.goto("/lab")
    page.get_by_role("button", name="Double-click against PRG only").click()
    page.locator("#cell-2-3 a").wait_for()
    page.get_by_role("button", name="Play all 63 scenes").wait_for()
    paths = [page.locator("#cell-2-3 a").get_attribute("href"), "/lab", "/lab/try/2/", "/lab/bank/2"]
    for path in paths:
        page.goto(path)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
    context.close()
