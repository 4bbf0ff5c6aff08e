"""Parses and validates requests to the bank. Raises BadRequest, with a code for programs and a sentence for people."""

import hashlib
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from app.gateways.sandbox.cards import SandboxCard, find_card, last_four
from app.money import currencies

KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._~:-]{0,199}")
API_KEY = re.compile(r"[!-~]{32,200}")
LABEL = re.compile(r"[A-Za-z0-9._-]{1,64}")
EXPIRY = re.compile(r"(0[1-9]|1[0-2])/?(\d\d|20\d\d)")
CVC = re.compile(r"[0-9]{3,4}")
HOST = re.compile(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]")
LOOPBACK = ("127.0.0.1", "::1", "localhost")
LARGEST = 10**15
"""The largest amount in minor units. Sums of such amounts fit into 64 bits."""


class BadRequest(Exception):
    """The request is not valid. It changed nothing. `status` is the HTTP status of the response."""

    status = 400

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class KeyReused(BadRequest):
    """An earlier request with other values used this key."""

    status = 422

    def __init__(self) -> None:
        super().__init__("key_reused", "This key was used for another request.")


class NoAccount(BadRequest):
    """The request has no API key. Without one it can't see or move anything."""

    status = 401

    def __init__(self) -> None:
        super().__init__("no_api_key", "The request needs the header Authorization: Bearer, with an API key.")


@dataclass(frozen=True)
class BankChargeRequest:
    """A request to charge a card. `amount` is in minor units. Its repr shows no card data.

    `fingerprint` is equal for two requests if they are the same request.
    """

    key: str
    amount: int
    currency: str
    card: SandboxCard
    last4: str
    return_url: str
    shop: str
    shop_id: str | None
    order_id: str | None
    fingerprint: str

    def __repr__(self) -> str:
        return f"BankChargeRequest({self.key})"


@dataclass(frozen=True)
class BankRefundRequest:
    """A request to give part or all of a charge back. `amount` is in minor units."""

    key: str
    charge_key: str
    amount: int
    currency: str
    shop_id: str | None

    def columns(self) -> dict[str, Any]:
        """Return the request as columns of the refund and of its movement."""
        return {
            "key": self.key, "charge": self.charge_key, "amount": self.amount, "currency": self.currency,
            "shop_id": self.shop_id,
        }  # fmt: skip


def parse_charge(body: Any, header_key: str | None) -> BankChargeRequest:
    """Return the charge request in `body`. Raises BadRequest, whose message never contains a card number."""
    fields = _object(body)
    key, amount, currency = _key(fields, header_key), _amount(fields), _currency(fields)
    card, last4, expiry = _card(fields)
    return BankChargeRequest(
        key=key,
        amount=amount,
        currency=currency,
        card=card,
        last4=last4,
        return_url=_return_url(fields),
        shop=_shop(fields),
        shop_id=_label(fields, "shop_id"),
        order_id=_label(fields, "order_id"),
        fingerprint=_fingerprint(amount, currency, card, expiry),
    )


def check_return_host(url: str, hosts: Collection[str]) -> None:
    """Raise BadRequest unless the URL leads to one of the hosts, or to the shopper's own machine.

    Anybody can open an account. Without this check, they could use the bank's page to lead people to any site.
    """
    host = (urlsplit(url).hostname or "").lower()
    if host not in hosts and host not in LOOPBACK and not host.endswith(".localhost"):
        message = f"This account may not lead shoppers back to {host}. Is the bank started with the shop's SHOP_HOSTS?"
        raise BadRequest("bad_return_url", message)


def parse_refund(body: Any, header_key: str | None) -> BankRefundRequest:
    """Return the refund request in `body`. Raises BadRequest."""
    fields = _object(body)
    charge_key = fields.get("charge")
    if not isinstance(charge_key, str) or not KEY.fullmatch(charge_key):
        raise BadRequest("bad_charge", "charge must be the key of the charge.")
    shop_id = _label(fields, "shop_id")
    return BankRefundRequest(_key(fields, header_key), charge_key, _amount(fields), _currency(fields), shop_id)


def parse_api_key(authorization: str) -> str:
    """Return the API key in the header Authorization. Raises NoAccount."""
    scheme, _, key = authorization.partition(" ")
    if scheme.lower() != "bearer" or not API_KEY.fullmatch(key):
        raise NoAccount
    return key


def parse_key(key: str) -> str:
    """Return a key from a URL. Raises BadRequest if it is not a valid key."""
    return _key({"key": key}, None)


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise BadRequest("not_json", "The body must be a JSON object.")
    return body


def _key(fields: dict[str, Any], header_key: str | None) -> str:
    key = fields.get("key", header_key)
    if not isinstance(key, str) or not KEY.fullmatch(key) or header_key not in (None, key):
        raise BadRequest("bad_key", "The request needs an idempotency key of 1 to 200 letters, digits and . _ ~ : -")
    return key


def _amount(fields: dict[str, Any]) -> int:
    amount = fields.get("amount")
    if type(amount) is not int or not 0 < amount <= LARGEST:
        raise BadRequest("bad_amount", "amount must be a whole number of minor units, at least 1.")
    return amount


def _currency(fields: dict[str, Any]) -> str:
    currency = fields.get("currency")
    if not isinstance(currency, str) or currency not in currencies():
        raise BadRequest("bad_currency", "currency must be an ISO 4217 code such as EUR.")
    return currency


def _card(fields: dict[str, Any]) -> tuple[SandboxCard, str, str]:
    given = fields.get("card")
    number, expiry, cvc = (_text(given, name) for name in ("number", "expiry", "cvc"))
    card = find_card(number)
    if card is None:
        raise BadRequest("not_a_test_card", "This bank accepts test cards only.")
    if not EXPIRY.fullmatch(expiry) or not CVC.fullmatch(cvc):
        raise BadRequest("bad_card", "card must have number, expiry (MM/YY) and cvc.")
    return card, last_four(number), expiry


def _text(given: Any, name: str) -> str:
    value = given.get(name) if isinstance(given, dict) else None
    if not isinstance(value, str) or len(value) > 40:
        raise BadRequest("bad_card", "card must have number, expiry (MM/YY) and cvc.")
    return value.replace(" ", "")


def _return_url(fields: dict[str, Any]) -> str:
    """Return the URL that the bank's page redirects the shopper to. It must be http(s), with a plain host name."""
    url = fields.get("return_url")
    if not isinstance(url, str) or len(url) > 2000 or not re.fullmatch(r"[!-~]+", url) or not _is_plain(url):
        raise BadRequest("bad_return_url", "return_url must be a URL such as https://shop.example/receipts/1.")
    return url


def _is_plain(url: str) -> bool:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (raises ValueError if the port is not valid)
    except ValueError:
        return False
    host = parts.netloc.rpartition(":")[0] if parts.port is not None else parts.netloc
    return parts.scheme in ("http", "https") and HOST.fullmatch(host) is not None and "\\" not in url


def _shop(fields: dict[str, Any]) -> str:
    shop = fields.get("shop", "")
    if not isinstance(shop, str) or len(shop) > 100 or not shop.isprintable():
        raise BadRequest("bad_shop", "shop must be a name of at most 100 characters.")
    return shop


def _label(fields: dict[str, Any], name: str) -> str | None:
    """Return what the shop calls itself or its order; None if it says nothing."""
    label = fields.get(name)
    if label is not None and not (isinstance(label, str) and LABEL.fullmatch(label)):
        raise BadRequest(f"bad_{name}", f"{name} must have at most 64 letters, digits and . _ -")
    return label


def _fingerprint(amount: int, currency: str, card: SandboxCard, expiry: str) -> str:
    """Hash what makes two requests the same. Of the card, use only the behaviour and the expiry: this is stored."""
    parts = [amount, currency, card.behaviour, expiry.replace("/", "")]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
