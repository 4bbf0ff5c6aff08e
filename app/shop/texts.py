"""All error texts of the basket and the checkout. If a text is about a payment, it says what happened to the money."""

from math import ceil

from app.charges.holds import NetworkFull
from app.gateways.base import NotPayable
from app.money import format_money

BASKET_NUMBER = "Enter how many you want, as a number from 0 to 99"
NOT_ON_SALE = "This is not for sale any more"
NOT_ENOUGH = "There are only {left} left; choose {left} or fewer"
NONE_LEFT = "This is sold out"
BASKET_FULL = "Your basket holds as many different things as one order can; pay for these first"
MANY_BASKETS = "Many people on your network are beginning a basket just now. Please try again in a minute"

EMAIL = "Enter your e-mail address in the right form, such as name@example.com"
NAME = "Enter your name"
NAME_ADDRESS = "Enter your name without a web address"
NAME_LENGTH = "Your name must have 100 characters or fewer"
CARD_NUMBER = "Enter the card number as it is on your card"
CARD_TEST = "This is a demonstration shop: use a test card, such as 4242 4242 4242 4242. Your card was not charged"
CARD_EXPIRY = "Enter the expiry date as month and year, such as 04/29"
CARD_EXPIRED = "This card has expired; use another one"
CARD_CVC = "Enter the security code, the 3 or 4 digits on the card"

STALE_FORM = "This form was open for long or came from somewhere else, so nothing was charged. Please press Pay again."
CHANGED_TOTAL = "The total was {before} when this page was shown and is {now} now. Nothing was charged."
CHANGED_BASKET = "Your basket was changed after this page was shown. Nothing was charged. Check it and pay again."
CHANGED_PRICE = "{name} costs {now} now, not {before}."
CHANGED_STOCK = "Of {name}, only {left} are left."
CHANGED_GONE = "{name} is sold out."
CHANGED_OFF_SALE = "{name} is not sold any more."
TOO_MANY_TRIES = (
    "Too many payments were tried here without success. This try took no money. Wait ten minutes, then press Pay again."
)
NETWORK_BUSY = (
    "Many cards from your network were declined, so we slow it down. This try took no money. "
    "Wait a minute, then press Pay again: this form is charged once at most."
)
HELD_ALL = "{name}: all that are left are in other shoppers’ checkouts at the moment."
HELD_SOME = "{name}: only {left} are free at the moment; the others are in other shoppers’ checkouts."
COME_BACK = "Some may come back in about {time}."
HELD_TRY = "This try took no money. You can press Pay again then: this form stays valid."
TOO_MANY_AT_ONCE = (
    "{name}: at most {left} can be ordered at once at the moment. This try took no money. Please order fewer; you can "
    "order more once this order is paid."
)
NETWORK_FULL = (
    "Other payments from your network hold these goods and wait to be confirmed. This try took no money. Please press "
    "Pay again in a moment; in about {time} at the latest, what nobody has paid for comes back."
)
CLOSED = "The shop takes no payments at the moment. This try took no money. Please press Pay again later."
BUSY = "The shop is busy. This try took no money. Please press Pay again: this form is charged once at most."

NO_PLACE = "Too many payments wait for the bank. This try took no money. Please press Pay again in a minute."

NOT_PAYABLE = {
    "too_little": "The least that can be paid here is {limit}. Nothing was charged. Put more into your basket.",
    "too_much": "The most that can be paid at once here is {limit}. Nothing was charged. Take something out of it.",
    "step": "This total can't be paid by card: it must be a multiple of {limit}. Nothing was charged.",
    "insecure": "This page was not opened by a secure address (https), so nothing was charged. Open the shop by https.",
}


def held(name: str, left: int, seconds: float) -> str:
    """Return the text about goods that other payments hold for at most `seconds`. `left` are the free pieces."""
    text = HELD_SOME.format(name=name, left=left) if left else HELD_ALL.format(name=name)
    return f"{text} {COME_BACK.format(time=_time(seconds))}"


def network_full(full: NetworkFull, seconds: float) -> str:
    """Return the text for an order that is too large for its network, whose other payments hold for `seconds`."""
    if full.alone:
        return TOO_MANY_AT_ONCE.format(name=full.name, left=full.left)
    return NETWORK_FULL.format(time=_time(seconds))


def _time(seconds: float) -> str:
    minutes = ceil(seconds / 60)
    return "a minute" if minutes == 1 else f"{minutes} minutes"


def not_payable(refusal: NotPayable, currency: str, locale: str) -> str:
    """Return the text that says why the total can't be paid, with the limit formatted for `locale`."""
    limit = format_money(refusal.limit, currency, locale) if refusal.limit is not None else ""
    return NOT_PAYABLE[refusal.reason].format(limit=limit)
