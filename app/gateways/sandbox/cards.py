"""The test cards and what the sandbox bank does with them. No other card number is ever sent, stored or logged."""

from dataclasses import dataclass
from enum import StrEnum


class Behaviour(StrEnum):
    """The behaviour of the bank when a card is charged."""

    APPROVES = "approves"
    DECLINES = "declines"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    ASKS_SHOPPER = "asks_shopper"
    SLOW = "slow"
    LOSES_FIRST_ANSWER = "loses_first_answer"
    FAILS_AFTER_TAKING = "fails_after_taking"
    FAILS_BEFORE_TAKING = "fails_before_taking"
    SILENT_TAKES = "silent_takes"
    SILENT_TAKES_NOTHING = "silent_takes_nothing"


@dataclass(frozen=True)
class SandboxCard:
    """A test card. `number` has four groups of digits, `description` is shown on the checkout page."""

    number: str
    behaviour: Behaviour
    description: str


CARDS = (
    SandboxCard("4242 4242 4242 4242", Behaviour.APPROVES, "approves"),
    SandboxCard("4000 0000 0000 0002", Behaviour.DECLINES, "declines"),
    SandboxCard("4000 0000 0000 9995", Behaviour.INSUFFICIENT_FUNDS, "declines: not enough funds"),
    SandboxCard("4000 0025 0000 3155", Behaviour.ASKS_SHOPPER, "asks you to confirm on the bank's page"),
    SandboxCard("4000 0000 0006 0014", Behaviour.SLOW, "approves slowly, after 5 seconds"),
    SandboxCard("4000 0000 0006 0022", Behaviour.LOSES_FIRST_ANSWER, "takes the money; the first answer is lost"),
    SandboxCard("4000 0000 0006 0030", Behaviour.FAILS_AFTER_TAKING, "takes the money; the first answer is an error"),
    SandboxCard(
        "4000 0000 0006 0048",
        Behaviour.FAILS_BEFORE_TAKING,
        "takes nothing at first and answers with an error; then approves",
    ),
    SandboxCard("4000 0000 0006 0055", Behaviour.SILENT_TAKES, "takes the money and never answers"),
    SandboxCard("4000 0000 0006 0063", Behaviour.SILENT_TAKES_NOTHING, "takes nothing and never answers"),
)

SEPARATORS = str.maketrans("", "", " \t\u00a0\u2009\u202f-\u2010\u2011\u2012\u2013")
"""Characters that people and password managers put between the groups: kinds of spaces and hyphens."""


def normalise(number: str) -> str:
    """Return the number without separators: "4242-4242 4242 4242" → "4242424242424242". Keep all else in it."""
    return number.strip().translate(SEPARATORS)


BY_NUMBER = {normalise(card.number): card for card in CARDS}


def find_card(number: str) -> SandboxCard | None:
    """Return the test card with this number, or None: then the number must not be sent anywhere."""
    return BY_NUMBER.get(normalise(number))


def is_card_number(number: str) -> bool:
    """Return whether this can be the number of any card: 12 to 19 digits with a valid Luhn check digit."""
    digits = normalise(number)
    return digits.isascii() and digits.isdigit() and 12 <= len(digits) <= 19 and _luhn(digits) % 10 == 0


def last_four(number: str) -> str:
    """Return the last four digits. No more of a card number may be stored or shown."""
    return normalise(number)[-4:]


def _luhn(digits: str) -> int:
    doubled = (2 * int(digit) for digit in digits[-2::-2])
    return sum(map(int, digits[::-2])) + sum(value - 9 if value > 9 else value for value in doubled)
