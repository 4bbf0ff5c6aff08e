"""Pictures of the main pages at three widths, light and dark, for a person to look at: `make shots`.

python -m tests.browser.shots [folder]
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Page, sync_playwright

from setup.chromium import find
from tests.browser.conftest import QUIET
from tests.browser.walk import Town, walk

WIDTHS = (320, 768, 1280)
MAIN = {
    "catalogue", "product", "basket", "basket, error", "checkout", "checkout, errors", "order again", "declined",
    "needs the shopper", "the bank's page", "paid, three arrivals", "refunded in part", "payments", "in doubt",
    "no such page",
}  # fmt: skip


@contextmanager
def open_town() -> Iterator[Town]:
    """A live shop of its own, gone afterwards."""
    with TemporaryDirectory() as folder:
        town = Town(Path(folder))
        town.start()
        try:
            yield town
        finally:
            town.stop_all()


def take(tab: Page, name: str, folder: Path) -> None:
    """The whole page, once for each width and scheme; the receipt as it is printed too."""
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
    folder.mkdir(parents=True, exist_ok=True)
    with open_town() as town, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(find()), args=QUIET)
        for name, visitor in walk(browser, town):
            if name in MAIN:
                take(visitor.tab, name, folder)
        browser.close()
    print(f"{len(list(folder.glob('*.png')))} pictures in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "instance/shots"))
