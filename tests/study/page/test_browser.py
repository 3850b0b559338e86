"""The page in a real browser: light and dark, phone and desktop, by keyboard, and judged by axe-core.

Wants Chromium (`apt-get install chromium`, or CHROME=/path/to/chrome); skipped where there is none.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from facerep.study.page.page import render
from facerep.study.page.theme import PALETTE
from tests.support.study import made_up

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROME = os.environ.get("CHROME") or next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
PHONE, DESKTOP = (360, 800), (1280, 900)
Scheme = Literal["light", "dark"]

pytestmark = pytest.mark.skipif(
    CHROME is None, reason=f"no browser: none of {', '.join(NAMES)} is there, nor CHROME set"
)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("results") / "made_up"
    variants = ("original", "supervised", "simclr", "rotated_grayscale")
    made_up.write(folder, variants, seeds=3, missing=2, epochs=4)
    render(folder, photographs=True)
    return (folder / "index.html").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROME, args=FLAGS)
        yield running
        running.close()


def opened(
    browser: Browser, address: str, size: tuple[int, int], scheme: Scheme = "light", unfold: bool = True
) -> Page:
    """The page in a new window without a network, its folded parts open."""
    window = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, offline=True)
    page = window.new_page()
    page.goto(address)
    if unfold:
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    return page


@pytest.fixture
def phone(browser: Browser, address: str) -> Iterator[Page]:
    page = opened(browser, address, PHONE)
    yield page
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_axe_finds_nothing_serious(browser: Browser, address: str, size: tuple[int, int], scheme: Scheme) -> None:
    page = opened(browser, address, size, scheme)
    # the lines within a figure are of no interest: its name is
    found = Axe().run(page, {"exclude": [["svg > *"]]}, {"resultTypes": ["violations"]}).response["violations"]
    page.context.close()
    grave = [violation for violation in found if violation["impact"] in ("serious", "critical")]
    serious = [(violation["id"], [node["html"][:200] for node in violation["nodes"][:3]]) for violation in grave]
    assert serious == []


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_nothing_stands_out_of_the_page(browser: Browser, address: str, width: int) -> None:
    page = opened(browser, address, (width, 800))
    widths = page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth, window.innerWidth]")
    figures = page.evaluate(
        "[...document.querySelectorAll('.panel')].map(p => [p.className, p.getBoundingClientRect().width > 0])"
    )
    page.context.close()
    assert widths[0] == widths[2] == width and widths[1] <= width
    shown = {kind for kind, visible in figures if visible}
    assert shown == {"panel", "panel narrow" if width < 736 else "panel wide"}  # one of the twins


def test_no_request_and_no_complaint(browser: Browser, address: str) -> None:
    window = browser.new_context(offline=True)
    page, asked, said = window.new_page(), list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url[:100]))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    page.get_by_role("button", name="difference").first.click()
    assert all(page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)"))
    window.close()
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert said == []


def test_the_keyboard_reaches_what_scrolls(phone: Page) -> None:
    phone.keyboard.press("Tab")
    skip = phone.locator(":focus")
    assert skip.get_attribute("href") == "#main"
    box = skip.bounding_box()
    assert box is not None and box["y"] >= 0 and box["x"] >= 0
    phone.keyboard.press("Enter")
    assert phone.evaluate("document.activeElement.id") == "main"
    reached: list[str | None] = []
    while phone.evaluate("document.activeElement.matches('body, .skip') === false") and len(reached) < 500:
        phone.keyboard.press("Tab")
        reached.append(phone.evaluate("document.activeElement.getAttribute('aria-labelledby')"))
    wide = phone.evaluate(
        "[...document.querySelectorAll('[role=region][aria-labelledby]')].filter(r => r.scrollWidth > r.clientWidth)"
        ".map(r => r.getAttribute('aria-labelledby'))"
    )
    assert len(wide) > 5
    assert [name for name in reached if name] == wide  # these, and none that does not scroll
    table = phone.locator(".scroll:has(table[data-sortable])").first
    table.focus()
    assert table.evaluate("region => getComputedStyle(region).outlineStyle") == "solid"
    phone.keyboard.press("ArrowRight")
    phone.wait_for_function("document.activeElement.scrollLeft > 0")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_follow_the_screen(browser: Browser, address: str, scheme: Scheme) -> None:
    page = opened(browser, address, DESKTOP, scheme)
    ink, paper = page.evaluate(
        "[getComputedStyle(document.querySelector('.chart text')).fill, getComputedStyle(document.body).backgroundColor]"
    )
    page.context.close()
    wanted = [PALETTE[name][scheme == "dark"] for name in ("ink", "paper")]
    assert [ink, paper] == [f"rgb({int(c[1:3], 16)}, {int(c[3:5], 16)}, {int(c[5:], 16)})" for c in wanted]


def test_a_heading_sorts_its_table(phone: Page) -> None:
    table = phone.locator("table[data-sortable]").first
    heading = table.get_by_role("columnheader", name="mean")
    for order in ("ascending", "descending"):
        heading.get_by_role("button").focus()
        phone.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") == order
        values = table.locator("tbody tr td:nth-child(3) data").evaluate_all("cells => cells.map(c => Number(c.value))")
        assert values == sorted(values, reverse=order == "descending")
    assert len(values) == 16


def test_the_files_alone_follow_the_screen_too(browser: Browser, address: str) -> None:
    figure = address.replace("index.html", "figures/curves-accuracy-wide.svg")
    page = opened(browser, figure, DESKTOP, "dark", unfold=False)
    fill = page.evaluate("getComputedStyle(document.querySelector('text')).fill")
    page.context.close()
    assert fill == "rgb(231, 233, 236)"
    assert Path(figure.removeprefix("file://")).stat().st_size < 60_000
