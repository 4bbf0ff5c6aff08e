"""Attacks that need no inside knowledge, against any checkout on this machine."""

import ipaddress
import re
import socket
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lab.attacks import TWINS
from lab.browser import Browser, Form, Page, forms
from lab.trace import Trace


class NotLoopback(ValueError):
    """The address is not this machine's own: whoever attacks other people's shops does it without this program."""


class NoSuchForm(Exception):
    """The page has no form with this token field; the message says what was found."""


@dataclass(frozen=True)
class Target:
    """A checkout: `form` is the address of the page with the form, `token` the name of its one-time field.

    `start`: a page whose form is sent first, such as the one that fills a basket. In `form`, `start` and `fields`
    "{n}" becomes the number of the attack, so that each can buy something else or for another shopper.
    """

    url: str
    form: str
    token: str
    start: str = ""
    fields: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Report:
    """What was seen from outside. Money can't be: compare with the statement of the gateway that was used."""

    attack: str
    requests: int
    redirects: int
    receipts: int
    errors: int

    @property
    def verdict(self) -> str:
        """Green: one receipt, and every answer leads there. Red: several receipts. Amber: some lead nowhere."""
        if self.receipts > 1:
            return "red"
        return "green" if self.receipts == 1 and self.redirects == self.requests else "amber"


def check_loopback(url: str) -> None:
    """Raises NotLoopback unless every address that the URL's host stands for is this machine's own."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise NotLoopback(f"{url} is not an address such as http://127.0.0.1:8000")
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NotLoopback(f"{parts.hostname} can't be looked up: {error}") from None
    if not all(ipaddress.ip_address(str(address[4][0]).split("%")[0]).is_loopback for address in found):
        raise NotLoopback(f"{parts.hostname} is not this machine: only loopback addresses are attacked")


def attack(target: Target) -> list[Report]:
    """All of them, each by a shopper of its own."""
    check_loopback(target.url)
    return [_one(target, number, *named) for number, named in enumerate(ATTACKS.items(), 1)]


class _Shopper:
    def __init__(self, target: Target, number: int, folder: str) -> None:
        self.browser = Browser(target.url.rstrip("/"), Trace(Path(folder) / "trace"))
        self._target, self._number = target, str(number)
        self._fields = {name: text.replace("{n}", self._number) for name, text in (target.fields or {}).items()}
        if target.start:
            self.browser.send(self._form(target.start, ""))

    def open_form(self) -> Form:
        """The checkout form, filled in."""
        form = self._form(self._target.form, self._target.token)
        form.fields |= self._fields
        return form

    def _form(self, path: str, token: str) -> Form:
        """The form that has the token field; the first one of the page where no field is named."""
        page = self.browser.get(path.replace("{n}", self._number))
        found = [form for form in forms(page) if token in form.fields or not token]
        if not found:
            raise NoSuchForm(f"{path} answered {page.status} without a form that posts {token or 'anything'}")
        # What is sent goes where the page came from, wherever its form says it should.
        check_loopback(found[0].action)
        return found[0]

    def at_once(self, chosen: list[Form]) -> list[Page]:
        start, pages = threading.Barrier(len(chosen)), list[Page]()

        def one(form: Form) -> None:
            start.wait()
            pages.append(self.browser.send(form))

        threads = [threading.Thread(target=one, args=(form,)) for form in chosen]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return pages


def _back(shopper: _Shopper) -> list[Page]:
    form = shopper.open_form()
    return [shopper.browser.send(form) for _ in range(2)]


def _double_click(shopper: _Shopper) -> list[Page]:
    return shopper.at_once([shopper.open_form()] * 2)


def _twins(shopper: _Shopper) -> list[Page]:
    return shopper.at_once([shopper.open_form()] * TWINS)


def _second_tab(shopper: _Shopper) -> list[Page]:
    return shopper.at_once([shopper.open_form(), shopper.open_form()])


ATTACKS: dict[str, Callable[[_Shopper], list[Page]]] = {
    "Back, pay again": _back,
    "Double-click": _double_click,
    f"{TWINS} twins": _twins,
    "Second tab": _second_tab,
}


def _one(target: Target, number: int, name: str, run: Callable[[_Shopper], list[Page]]) -> Report:
    with tempfile.TemporaryDirectory(prefix="payonce-lab-") as folder:
        pages = run(_Shopper(target, number, folder))
    receipts = {re.sub(r"[?#].*", "", page.redirects[0]) for page in pages if page.redirects}
    errors = sum(page.status >= 500 or page.status == 0 for page in pages)
    return Report(name, len(pages), sum(bool(page.redirects) for page in pages), len(receipts), errors)
