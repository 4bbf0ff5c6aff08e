"""The shopper's forms: their fields, how each is checked, and the text that is shown if it is wrong."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from unicodedata import category

from wtforms import BooleanField, EmailField, HiddenField, IntegerField, StringField
from wtforms.validators import DataRequired, Email, InputRequired, NumberRange, StopValidation, ValidationError

from app.gateways.base import Card
from app.gateways.sandbox.cards import find_card, is_card_number, normalise
from app.orders.basket import MOST_OF_ONE
from app.security import Form
from app.shop import texts


def _strip(value: str | None) -> str | None:
    """Remove the space around a text."""
    return value.strip() if value else value


def _slug(value: str | None) -> str | None:
    """Remove the space around a slug, and NUL characters, which PostgreSQL does not accept in a query."""
    return value.replace("\x00", "").strip() if value else value


CONTROL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
JOINERS = "\u200c\u200d"


def _at_most(length: int, message: str) -> Callable[[Any, Any], None]:
    """Return a validator that refuses a longer text. Unlike WTForms' own, it then ends all other checks of the text."""

    def refuse(_form: Any, field: Any) -> None:
        if len(field.data or "") > length:
            raise StopValidation(message)

    return refuse


def _one_line(message: str) -> Callable[[Any, Any], None]:
    """Return a validator that refuses control characters and invisible ones, such as those that turn a text around.

    The joiners of Persian and Indian scripts are allowed.
    """

    def refuse(_form: Any, field: Any) -> None:
        if any(category(each) in CONTROL and each not in JOINERS for each in field.data or ""):
            raise StopValidation(message)

    return refuse


COMMON_ENDING = re.compile(r"\.(com|net|org|info|biz|io|me|xyz|top|shop|site|online)\b|\.\w+/", re.I)
AFTER_FULL_STOP = re.compile(r"\w\w[.\u3002\uff0e\uff61]([^\W\d_])[^\W\d_]")
"""The first letter of a word that follows another word after only a full stop. Mail programs show both as a link."""


def _no_web_address(_form: Any, field: Any) -> None:
    """Refuse a web address as a name: the receipt e-mail would carry it to any stranger whose address was entered.

    "St.John" and "J.Smith" are names: an initial, or a capital letter after the full stop.
    """
    name = field.data or ""
    follows = AFTER_FULL_STOP.findall(name)
    if "://" in name or COMMON_ENDING.search(name) or any(not letter.isupper() for letter in follows):
        raise ValidationError(texts.NAME_ADDRESS)


class QuantityField(IntegerField):
    """A whole number. Other input gets our error text instead of WTForms' own."""

    def process_formdata(self, valuelist: list[str]) -> None:
        try:
            super().process_formdata(valuelist)
        except ValueError:
            raise ValueError(texts.BASKET_NUMBER) from None


class BasketForm(Form):
    """The quantity of one product in the basket. 0 removes it."""

    product = HiddenField(
        filters=[_slug], validators=[InputRequired(texts.NOT_ON_SALE), _at_most(80, texts.NOT_ON_SALE)]
    )
    quantity = QuantityField(
        "Quantity",
        validators=[
            InputRequired(texts.BASKET_NUMBER),
            NumberRange(min=0, max=MOST_OF_ONE, message=texts.BASKET_NUMBER),
        ],
    )


class CancelForm(Form):
    """A form without fields: it consists of a button and the CSRF token."""


def _no_encoded_word(_form: Form, field: Any) -> None:
    """Refuse "=?utf-8?q?ada?=@example.org": in an e-mail's header it is the address of somebody else."""
    if "=?" in (field.data or ""):
        raise ValidationError(texts.EMAIL)


class CheckoutForm(Form):
    """The payer's details. The view reads the checkout token itself, before it validates this form."""

    checkout_token = HiddenField()
    email = EmailField(
        "E-mail address", filters=[_strip],
        validators=[InputRequired(texts.EMAIL), _at_most(254, texts.EMAIL), _one_line(texts.EMAIL),
                    Email(texts.EMAIL), _no_encoded_word],
    )  # fmt: skip
    name = StringField(
        "Full name", filters=[_strip],
        validators=[DataRequired(texts.NAME), _at_most(100, texts.NAME_LENGTH), _one_line(texts.NAME),
                    _no_web_address],
    )  # fmt: skip
    order_again = BooleanField("Yes, order this again")

    card: Card | None = None


class CardCheckoutForm(CheckoutForm):
    """The payer's details and card. A form that is shown again never contains the card."""

    card_number = StringField("Card number", filters=[_strip], validators=[InputRequired(texts.CARD_NUMBER)])
    card_expiry = StringField("Expiry date", filters=[_strip], validators=[InputRequired(texts.CARD_EXPIRY)])
    card_cvc = StringField("Security code", filters=[_strip], validators=[InputRequired(texts.CARD_CVC)])

    def validate_card_number(self, field: Any) -> None:
        if not is_card_number(field.data):
            raise StopValidation(texts.CARD_NUMBER)
        if find_card(field.data) is None:
            raise StopValidation(texts.CARD_TEST)

    def validate_card_expiry(self, field: Any) -> None:
        month, year = _expiry(field.data)
        now = datetime.now(UTC)
        if (year, month) < (now.year, now.month):
            raise ValidationError(texts.CARD_EXPIRED)

    def validate_card_cvc(self, field: Any) -> None:
        if not re.fullmatch(r"[0-9]{3,4}", field.data):
            raise ValidationError(texts.CARD_CVC)

    @property
    def card(self) -> Card:  # type: ignore[override]
        """Return the card for the gateway. Call it only after successful validation."""
        month, year = _expiry(self.card_expiry.data)
        return Card(normalise(self.card_number.data), f"{month:02}/{year % 100:02}", self.card_cvc.data)


def _expiry(text: str) -> tuple[int, int]:
    """Return month and year: (4, 2029) for "4/29", "04/29", "0429" and "04 / 2029". Raises ValidationError."""
    match = re.fullmatch(r"(0?[1-9]|1[0-2])\s*[/.\- ]\s*(?:20)?([0-9]{2})|(0[1-9]|1[0-2])(?:20)?([0-9]{2})", text)
    if match is None:
        raise ValidationError(texts.CARD_EXPIRY)
    month, year = match[1] or match[3], match[2] or match[4]
    return int(month), 2000 + int(year)
