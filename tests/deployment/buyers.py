"""Shoppers behind a proxy, in several threads. By default, they accept no failed request at all."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

from tests.deployment.proxies import Proxy
from tests.factories import MUG, fields
from tests.gateways.bank import until
from tests.page import Page, Shopper

PATIENCE = 60.0
"""Seconds in which a patient shopper repeats a request that failed."""


@dataclass
class Buyers:
    """`patient` shoppers repeat requests that fail. Each failure must say something about money."""

    proxy: Proxy
    patient: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    receipts: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    repeated: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        """Buy again and again, each time in a new browser, until `stop` is set."""
        while not self.stop.is_set():
            try:
                with self.proxy.client() as client:
                    self.receipts.append(self._buy(client))
            except Exception as error:  # The test's thread reports it.
                self.failures.append(f"{type(error).__name__}: {error}")
                return

    def _buy(self, client: httpx.Client) -> str:
        form = self._page(client, f"/products/{MUG}").form("Add to basket").fill(quantity=1)
        self._ask(client, "POST", form.action, data=form.fields)
        pay = self._page(client, "/checkout").form("Pay").fill(**fields(email=f"{uuid4().hex}@example.org"))
        receipt = self._ask(client, "POST", pay.action, data=pay.fields).headers["Location"]
        self._ask(client, "GET", receipt)
        return str(receipt)

    def _page(self, client: httpx.Client, path: str) -> Page:
        return Page(Shopper(client), [self._ask(client, "GET", path)])

    def _ask(self, client: httpx.Client, method: str, url: str, **options: Any) -> httpx.Response:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                response = client.request(method, url, **options)
            except httpx.TransportError as error:
                assert self.patient and time.monotonic() < end, f"{method} {url}: {error!r}"
                self.repeated[type(error).__name__] += 1
                continue
            if response.status_code in {200, 303}:
                return response
            said = f"{method} {url}: {response.status_code} {response.text[:500]}"
            assert self.patient and time.monotonic() < end, said
            assert response.status_code in {502, 503, 504}, said
            assert "charged" in response.text or "no money" in response.text, said
            self.repeated[str(response.status_code)] += 1
            time.sleep(0.1)

    def wait(self, more: int) -> None:
        """Wait for `more` further purchases that were begun after this call."""
        wanted = len(self.receipts) + more
        until(lambda: len(self.receipts) >= wanted or self.failures, 90)
        assert not self.failures, self.failures


@contextmanager
def buying(proxy: Proxy, *, patient: bool = False, count: int = 3) -> Iterator[Buyers]:
    """Let shoppers buy while the block runs. In the end, no purchase may have failed."""
    buyers = Buyers(proxy, patient)
    threads = [threading.Thread(target=buyers.run) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield buyers
    finally:
        buyers.stop.set()
        for thread in threads:
            thread.join(PATIENCE + 30)
    assert not buyers.failures, buyers.failures
