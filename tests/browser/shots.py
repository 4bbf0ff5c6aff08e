"""Takes pictures of the main pages at three widths, light and dark, for a person to look at: `make shots`.

python -m tests.browser.shots [folder]
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Page, sync_playwright

from setup.chromium import find
from tests.browser.conftest import CHROMIUM_OPTIONS
from tests.browser.visits import ShopWithoutRecovery, visit_all

WIDTHS = (320, 768, 1280)
MAIN = {
    "catalogue", "product", "basket", "basket, error", "checkout", "checkout, errors", "same order again", "declined",
    "requires action", "the bank's page", "paid, three arrivals", "refunded in part", "payments", "not forgotten",
    "forgotten", "in doubt", "no such page",
}  # fmt: skip


@contextmanager
def running_shop() -> Iterator[ShopWithoutRecovery]:
    """Start a shop in a temporary folder, and stop it after the block."""
    with TemporaryDirectory() as folder:
        shop = ShopWithoutRecovery(Path(folder))
        shop.start()
        try:
            yield shop
        finally:
            shop.stop_all()


def take(tab: Page, name: str, folder: Path) -> None:
    """Save the whole page for each width and colour scheme. Save receipts as PDF too, as they are printed."""
    tab.evaluate("document.querySelectorAll('[loading=lazy]').forEach((each) => { each.loading = 'eager'; })")
    tab.wait_for_load_state("networkidle")
    name = name.replace(", ", "-").replace(" ", "-").replace("'", "")
    for width in WIDTHS:
        tab.set_viewport_size({"width": width, "height": 800})
        for scheme in ("light", "dark"):
            tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            tab.screenshot(path=folder / f"{name}-{width}-{scheme}.png", full_page=True)
    if name.startswith("paid"):
        tab.emulate_media(media="print", color_scheme="light")
        tab.pdf(path=folder / f"{name}.pdf", format="A4")
        tab.emulate_media(media="screen")


def main(folder: Path) -> None:
    """Take all pictures and print their number."""
    folder.mkdir(parents=True, exist_ok=True)
    with running_shop() as shop, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(find()), args=CHROMIUM_OPTIONS)
        for name, visitor in visit_all(browser, shop):
            if name in MAIN:
                take(visitor.tab, name, folder)
        browser.close()
    print(f"{len(list(folder.glob('*.png')))} pictures in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "instance/shots"))
