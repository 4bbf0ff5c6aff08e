"""Shoppers over TCP who react to failures as people do: they press again, reload, or close the connection.

They write down every receipt that they are redirected to and every status that it shows.
"""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from uuid import uuid4

import httpx

from tests.factories import APPROVES, DECLINES, MUG, fields
from tests.page import Page, Shopper

CARDS = [APPROVES] * 6 + ["4000 0000 0006 0022", "4000 0000 0006 0030", "4000 0000 0006 0048"] + [DECLINES]
"""Mostly approved. With some, the first answer is lost or an error. Few declines, because the shop limits those."""

PATIENCE = 90.0
"""Seconds for which a shopper repeats one request. After that the test fails."""

VANISHED = "We have no record of this order"
"""The heading of the page about a form whose order the database does not have."""

FINAL = {"succeeded", "declined", "canceled"}


class OrderVanished(Exception):
    """The shop has no record of the order that was to be paid. Nothing was charged."""


@dataclass
class Shoppers:
    """Shoppers in several threads. `receipts` holds each receipt's address with the statuses that it has shown.

    If `orders_may_vanish`, because a failing leader may still be asked, a shopper whose order is unknown begins again.
    `paid_at` holds the time of each redirect to a new receipt, and `tokens` the token of its form.
    """

    url: str
    seed: int
    stop: threading.Event = field(default_factory=threading.Event)
    receipts: dict[str, list[str]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    posts: int = 0
    paid_at: list[float] = field(default_factory=list)
    orders_may_vanish: bool = False
    vanished: int = 0

    def run(self, number: int) -> None:
        """Let one shopper after the other buy something, in this thread, until `stop` is set."""
        rng = random.Random(self.seed * 1000 + number)
        while not self.stop.is_set():
            try:
                self._buy(rng)
            except OrderVanished:
                self.vanished += 1
            except Exception as error:  # The test's thread reports it.
                self.failures.append(f"{type(error).__name__}: {error}")
                return

    def _buy(self, rng: random.Random) -> None:
        with httpx.Client(base_url=self.url, timeout=20, trust_env=False) as client:
            page = self._get(client, f"/products/{MUG}")
            form = page.form("Add to basket").fill(quantity=1)
            self._post(client, form.action, form.fields)
            page = self._get(client, "/checkout")
            card = rng.choice(CARDS)
            pay = page.form("Pay").fill(**fields(email=f"{uuid4().hex}@example.org", card_number=card))
            if rng.random() < 0.3:
                self._post_and_hang_up(client, pay.action, pay.fields, rng.random() * 0.1)
            receipt = self._post(client, pay.action, pay.fields).headers["Location"]
            self.paid_at.append(time.monotonic())
            self.tokens[receipt] = pay.fields["checkout_token"]
            self._note_status(client, receipt)
            if rng.random() < 0.3:
                again = self._post(client, pay.action, pay.fields).headers["Location"]
                assert again == receipt, f"two receipts for one form: {receipt} {again}"

    def _note_status(self, client: httpx.Client, receipt: str) -> None:
        statuses = self.receipts.setdefault(receipt, [])
        statuses.append(str(self._ask(client, "GET", f"{receipt}.json", 200).json()["status"]))

    def _get(self, client: httpx.Client, path: str) -> Page:
        response = self._ask(client, "GET", path, 200)
        return Page(Shopper(client), [response])

    def _post_and_hang_up(self, client: httpx.Client, url: str, data: dict[str, str], after: float) -> None:
        """Send the form, and close the connection after a number of seconds."""
        with suppress(httpx.TransportError):
            client.post(url, data=data, timeout=httpx.Timeout(20, read=max(after, 0.001)))

    def _post(self, client: httpx.Client, url: str, data: dict[str, str]) -> httpx.Response:
        self.posts += 1
        return self._ask(client, "POST", url, 303, data=data)

    def _ask(self, client: httpx.Client, method: str, url: str, wanted: int, **kwargs: Any) -> httpx.Response:
        """Repeat the same request until the shop returns the wanted status. It may return 503 before, but no other."""
        end, response = time.monotonic() + PATIENCE, None
        while time.monotonic() < end:
            with suppress(httpx.TransportError):
                response = client.request(method, url, **kwargs)
                if response.status_code == wanted:
                    return response
                if self.orders_may_vanish and response.status_code == 404 and VANISHED in response.text:
                    raise OrderVanished
                assert response.status_code == 503, f"{method} {url}: {response.status_code} {response.text[:3000]}"
            time.sleep(0.1)
        raise AssertionError(f"{method} {url} never worked: {response}")

    def check(self) -> int:
        """Check that every receipt still exists, has a final status, and never showed another final status.

        Return the number of receipts.
        """
        assert not self.failures, self.failures
        with httpx.Client(base_url=self.url, timeout=20, trust_env=False) as client:
            for receipt, shown in self.receipts.items():
                now = self._ask(client, "GET", f"{receipt}.json", 200).json()["status"]
                assert now in FINAL, (receipt, now)
                assert {status for status in shown if status in FINAL} <= {now}, (receipt, shown, now)
        return len(self.receipts)

    def wait_for_receipts(self, more: int, seconds: float = 60) -> None:
        """Wait until shoppers have received `more` further receipts, or until the time is over."""
        wanted, end = len(self.receipts) + more, time.monotonic() + seconds
        while len(self.receipts) < wanted and not self.failures and time.monotonic() < end:
            time.sleep(0.02)
        assert not self.failures, self.failures

    def wait_for_payments(self, count: int, since: float, seconds: float = PATIENCE) -> None:
        """Wait until shoppers have paid `count` times after the first payment that came later than `since` allows."""
        end = time.monotonic() + seconds
        while sum(at > since for at in list(self.paid_at)) < count and not self.failures and time.monotonic() < end:
            time.sleep(0.05)
        assert not self.failures, self.failures

    def outage(self, since: float) -> float:
        """Return the longest time in seconds without a payment from `since` on."""
        times = [since, *(at for at in sorted(self.paid_at) if at > since)]
        return max((later - earlier for earlier, later in pairwise(times)), default=0.0)


@contextmanager
def shoppers_at(url: str, count: int = 4, seed: int = 1) -> Iterator[Shoppers]:
    """Yield shoppers who buy while the block runs. When it ends, wait until each has finished its purchase."""
    shoppers = Shoppers(url, seed)
    threads = [threading.Thread(target=shoppers.run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield shoppers
    finally:
        shoppers.stop.set()
        for thread in threads:
            thread.join(PATIENCE + 30)
