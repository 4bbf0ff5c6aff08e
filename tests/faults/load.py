"""Shoppers over TCP who do as people do when a shop fails: press again, reload, hang up. They note all they hear."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

from tests.factories import APPROVES, DECLINES, MUG, fields
from tests.page import Page, Shopper

CARDS = [APPROVES] * 6 + ["4000 0000 0006 0022", "4000 0000 0006 0030", "4000 0000 0006 0048"] + [DECLINES]
"""Mostly approved; some whose first answer is lost or an error; few declined, as the shop limits those."""

PATIENCE = 90.0
"""Seconds after which a shopper gives up, which fails the test."""

FINAL = {"succeeded", "declined", "canceled"}


@dataclass
class Crowd:
    """So many shoppers at once, and their own log: each receipt they were sent to, with the states it told."""

    url: str
    seed: int
    stop: threading.Event = field(default_factory=threading.Event)
    receipts: dict[str, list[str]] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    posts: int = 0

    def shop_on(self, number: int) -> None:
        """One shopper after the other on this thread, until told to stop."""
        chance = random.Random(self.seed * 1000 + number)
        while not self.stop.is_set():
            try:
                self._buy(chance)
            except Exception as error:  # What a shopper can't do is the test's news, not the thread's end.
                self.troubles.append(f"{type(error).__name__}: {error}")
                return

    def _buy(self, chance: random.Random) -> None:
        with httpx.Client(base_url=self.url, timeout=20, trust_env=False) as client:
            page = self._get(client, f"/products/{MUG}")
            form = page.form("Add to basket").fill(quantity=1)
            self._post(client, form.action, form.fields, (303,))
            page = self._get(client, "/checkout")
            card = chance.choice(CARDS)
            pay = page.form("Pay").fill(**fields(email=f"{uuid4().hex}@example.org", card_number=card))
            if chance.random() < 0.3:
                self._hang_up(client, pay.action, pay.fields, chance.random() * 0.1)
            receipt = self._post(client, pay.action, pay.fields, (303,)).headers["Location"]
            self._told(client, receipt)
            if chance.random() < 0.3:
                again = self._post(client, pay.action, pay.fields, (303,)).headers["Location"]
                assert again == receipt, f"two receipts for one form: {receipt} {again}"

    def _told(self, client: httpx.Client, receipt: str) -> None:
        states = self.receipts.setdefault(receipt, [])
        states.append(str(self._ask(client, "GET", f"{receipt}.json", (200,)).json()["status"]))

    def _get(self, client: httpx.Client, path: str) -> Page:
        answer = self._ask(client, "GET", path, (200,))
        return Page(Shopper(client), answer, [answer])

    def _hang_up(self, client: httpx.Client, url: str, data: dict[str, str], after: float) -> None:
        """Send the form, and do not wait for the answer."""
        with suppress(httpx.TransportError):
            client.post(url, data=data, timeout=httpx.Timeout(20, read=max(after, 0.001)))

    def _post(self, client: httpx.Client, url: str, data: dict[str, str], wanted: tuple[int, ...]) -> httpx.Response:
        self.posts += 1
        return self._ask(client, "POST", url, wanted, data=data)

    def _ask(
        self, client: httpx.Client, method: str, url: str, wanted: tuple[int, ...], **kwargs: Any
    ) -> httpx.Response:
        """Again and again, the very same, until the shop answers as it should. 503 is said; anything else is not."""
        end, answer = time.monotonic() + PATIENCE, None
        while time.monotonic() < end:
            with suppress(httpx.TransportError):
                answer = client.request(method, url, **kwargs)
                if answer.status_code in wanted:
                    return answer
                assert answer.status_code == 503, f"{method} {url}: {answer.status_code} {answer.text[:3000]}"
            time.sleep(0.1)
        raise AssertionError(f"{method} {url} never worked: {answer}")

    def check(self) -> int:
        """Every receipt that anybody was sent to exists, is settled, and never changes a final word."""
        assert not self.troubles, self.troubles
        with httpx.Client(base_url=self.url, timeout=20, trust_env=False) as client:
            for receipt, told in self.receipts.items():
                now = self._ask(client, "GET", f"{receipt}.json", (200,)).json()["status"]
                assert now in FINAL, (receipt, now)
                assert {state for state in told if state in FINAL} <= {now}, (receipt, told, now)
        return len(self.receipts)

    def progress(self, more: int, seconds: float = 60) -> None:
        """Wait until so many more receipts were told."""
        wanted, end = len(self.receipts) + more, time.monotonic() + seconds
        while len(self.receipts) < wanted and not self.troubles and time.monotonic() < end:
            time.sleep(0.02)
        assert not self.troubles, self.troubles


@contextmanager
def crowd(url: str, shoppers: int = 4, seed: int = 1) -> Iterator[Crowd]:
    """Shoppers that shop while the block runs; at its end all have finished what they were at."""
    them = Crowd(url, seed)
    threads = [threading.Thread(target=them.shop_on, args=(number,)) for number in range(shoppers)]
    for thread in threads:
        thread.start()
    try:
        yield them
    finally:
        them.stop.set()
        for thread in threads:
            thread.join(PATIENCE + 30)
