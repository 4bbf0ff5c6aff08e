"""Attacks that need no access to the code, on any checkout on this machine."""

import ipaddress
import re
import socket
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lab.attacks import TWINS
from lab.browser import Browser, Form, Page, forms, send_together
from lab.trace import Trace


class NotLoopback(ValueError):
    """The address does not belong to this machine. The Lab must not be usable against other people's shops."""


class NoSuchForm(Exception):
    """The page has no form with this token field. The message contains the path and the status."""


@dataclass(frozen=True)
class Target:
    """A checkout. `form` is the path of the payment form, `token` the name of its one-time field.

    `start` is a page whose first form is sent before, such as one that fills a basket. In `form`, `start` and
    `fields`, "{n}" is replaced by the number of the attack, so that each attack can use an order of its own.
    """

    url: str
    form: str
    token: str
    start: str = ""
    fields: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Report:
    """The result of one attack as it is visible from outside.

    It can't show how often money moved: compare it with the gateway's statement.
    """

    attack: str
    requests: int
    redirects: int
    receipts: int
    errors: int

    @property
    def verdict(self) -> str:
        """Return "red" for several receipts, "green" if every response leads to the same one, else "amber"."""
        if self.receipts > 1:
            return "red"
        return "green" if self.receipts == 1 and self.redirects == self.requests else "amber"


def check_loopback(url: str) -> None:
    """Check that all addresses of the URL's host are loopback addresses. Raises NotLoopback."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise NotLoopback(f"{url} is not a URL such as http://127.0.0.1:8000")
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NotLoopback(f"{parts.hostname} can't be looked up: {error}") from None
    if not all(ipaddress.ip_address(str(address[4][0]).split("%")[0]).is_loopback for address in found):
        raise NotLoopback(f"{parts.hostname} is not this machine: only loopback addresses can be attacked")


def attack(target: Target) -> list[Report]:
    """Run all attacks, each with a new shopper. Raises NotLoopback or NoSuchForm."""
    check_loopback(target.url)
    return [_attack(target, number, name, run) for number, (name, run) in enumerate(ATTACKS.items(), 1)]


class _Shopper:
    def __init__(self, target: Target, number: int, folder: str) -> None:
        self.browser = Browser(target.url.rstrip("/"), Trace(Path(folder) / "trace"))
        self._target, self._number = target, str(number)
        self._fields = {name: text.replace("{n}", self._number) for name, text in (target.fields or {}).items()}
        if target.start:
            self.browser.send(self._form(target.start, ""))

    def open_form(self) -> Form:
        """Open the checkout form and fill it in."""
        form = self._form(self._target.form, self._target.token)
        form.fields |= self._fields
        return form

    def _form(self, path: str, token: str) -> Form:
        """Return the form that has the token field, or the page's first form if `token` is empty."""
        page = self.browser.get(path.replace("{n}", self._number))
        found = [form for form in forms(page) if token in form.fields or not token]
        if not found:
            raise NoSuchForm(f"{path} (status {page.status}) has no POST form with {token or 'any field'}")
        check_loopback(found[0].action)  # The page may name an action on another host.
        return found[0]

    def send_together(self, copies: list[Form]) -> list[Page]:
        """Send all forms at the same moment."""
        return send_together(self.browser.send, copies)


def _back(shopper: _Shopper) -> list[Page]:
    form = shopper.open_form()
    return [shopper.browser.send(form) for _ in range(2)]


def _double_click(shopper: _Shopper) -> list[Page]:
    return shopper.send_together([shopper.open_form()] * 2)


def _twins(shopper: _Shopper) -> list[Page]:
    return shopper.send_together([shopper.open_form()] * TWINS)


def _second_tab(shopper: _Shopper) -> list[Page]:
    return shopper.send_together([shopper.open_form(), shopper.open_form()])


ATTACKS: dict[str, Callable[[_Shopper], list[Page]]] = {
    "Back, pay again": _back,
    "Double-click": _double_click,
    f"{TWINS} twins": _twins,
    "Second tab": _second_tab,
}


def _attack(target: Target, number: int, name: str, run: Callable[[_Shopper], list[Page]]) -> Report:
    with tempfile.TemporaryDirectory(prefix="payonce-lab-") as folder:
        pages = run(_Shopper(target, number, folder))
    receipts = {re.sub(r"[?#].*", "", page.redirects[0]) for page in pages if page.redirects}
    errors = sum(page.status >= 500 or page.status == 0 for page in pages)
    return Report(name, len(pages), sum(bool(page.redirects) for page in pages), len(receipts), errors)
