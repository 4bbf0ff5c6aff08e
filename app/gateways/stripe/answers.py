"""What the provider's answers mean. An answer is definite only if it is about our key and our amount."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import stripe

from app.gateways.base import Answer, Contradiction, Outcome, Payment, RefundRequest, Unknown
from app.gateways.stripe import currencies
from app.gateways.stripe.requests import REFUND_KEY

Fields = Mapping[str, Any]

ADDRESS = re.compile(r"[^\s'\"<>]+@[^\s'\"<>]+")
"""An e-mail address in an error message. It must not enter the log."""

LONGEST_URL = 2000

REFUSALS = frozenset({400, 401, 403, 404})
"""HTTP statuses of requests that the provider refuses: invalid, wrong key, not permitted, or no such object."""

ALARMING = frozenset({401, 403, 409, 429})
"""Statuses of errors that say nothing about the outcome, and that a person may have to end: a wrong or restricted
secret key, a key in use, a rate limit."""


class ErrorAnswer(Unknown):
    """The provider answered with an error, which is not an outcome.

    `status` is the HTTP status, `code` the provider's own code. Asking again at once can help if another request uses
    the key at this moment (409) or if the provider failed (5xx). It can't help if the provider repeats a failure that
    it has stored for the key, or if it limits our rate (429).
    """

    def __init__(self, error: stripe.StripeError) -> None:
        self.status = error.http_status or 0
        self.code = _code(error)
        self.refuses = self.status in REFUSALS and _type(error) == "invalid_request_error"
        """The provider refuses this request and has done nothing."""
        again = not _replayed(error) and (self.status == 409 or self.status >= 500)
        self.message = ADDRESS.sub("(address)", error.user_message or "")
        self.request_id = error.request_id
        self.alarm = self.status in ALARMING
        words = ["the provider answered", str(self.status), self.code, "again" if _replayed(error) else ""]
        super().__init__(" ".join(filter(None, words)), again=again)


def ask(request: Callable[[], stripe.StripeObject]) -> dict[str, Any]:
    """Send a request and return the answer's fields.

    Raises NotSent, Unknown or ErrorAnswer. None of them contains our secret key.
    """
    try:
        return request().to_dict()
    except stripe.StripeError as error:
        raise _error(error) from None


@contextmanager
def answer_errors() -> Iterator[None]:
    """Raise Unknown if reading an answer fails: a field is missing or of another type, or it is not an object."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Unknown(f"the provider's answer was unreadable: {type(error).__name__}") from error


def _error(error: stripe.StripeError) -> Unknown:
    if error.http_status is None or error.http_status < 400:
        return Unknown("the provider's answer was unreadable")
    return ErrorAnswer(error)


def of_refused(error: ErrorAnswer) -> Answer:
    """Return the answer to a charge that the provider refused."""
    return Answer(
        Outcome.CANCELED, reason=error.code, this_request_only=True, message=error.message, request_id=error.request_id
    )


def of_session(session: Fields, payment: Payment) -> Answer:
    """Return what a Checkout Session says about our payment. Raises Unknown."""
    _check(session.get("client_reference_id"), payment.key, "another key")
    _check_money(session.get("amount_total"), session.get("currency"), payment.amount, payment.currency)
    reference = id_of(session)
    match session.get("status"), session.get("payment_status"):
        case _, "paid":
            return Answer(Outcome.SUCCEEDED, reference)
        case "open", "unpaid":
            return Answer(Outcome.REQUIRES_ACTION, reference, action_url=_url(session))
        case "expired", "unpaid":
            return Answer(Outcome.CANCELED, reference, "expired")
        case status, payment_status:
            raise Unknown(f"the provider says {as_code(status)} and {as_code(payment_status)}", again=False)


def is_over(session: Fields, payment: Payment) -> bool:
    """Return whether our payment's session has ended unpaid. It took no money then, whatever its amount was."""
    _check(session.get("client_reference_id"), payment.key, "another key")
    return (session.get("status"), session.get("payment_status")) == ("expired", "unpaid")


def of_refund(refund: Fields, refund_request: RefundRequest) -> Answer:
    """Return what the provider's refund says about ours. Raises Unknown."""
    _check((refund.get("metadata") or {}).get(REFUND_KEY), refund_request.key, "another refund")
    _check_money(refund.get("amount"), refund.get("currency"), refund_request.amount, refund_request.payment.currency)
    outcome = outcome_of_refund(refund)
    if outcome is None:
        raise Unknown(f"the provider says {as_code(refund.get('status'))}", again=False)
    return Answer(outcome, id_of(refund), reason_of_refund(refund) if outcome is Outcome.DECLINED else None)


def outcome_of_refund(refund: Fields) -> Outcome | None:
    """Return what became of the provider's refund; None while that is not decided."""
    outcomes = {"succeeded": Outcome.SUCCEEDED, "failed": Outcome.DECLINED, "canceled": Outcome.DECLINED}
    return outcomes.get(str(refund.get("status")))


def reason_of_refund(refund: Fields) -> str:
    """Return the code that says why the provider's refund failed."""
    return as_code(refund.get("failure_reason") or refund.get("status"))


def id_of(fields: Fields) -> str:
    """Return the provider's id of the object. Raises Unknown if it has none."""
    found = fields["id"]
    if not isinstance(found, str) or not 0 < len(found) <= 255:
        raise Unknown("the provider's answer has no id", again=False)
    return found


def _check(theirs: object, ours: object, what: str) -> None:
    if theirs != ours:
        raise Unknown(f"the provider answered for {what}", again=False)


def _check_money(amount: object, currency: object, ours: int, our_currency: str) -> None:
    expected = (currencies.to_provider(ours, our_currency), our_currency.lower())
    if type(amount) is not int or (amount, currency) != expected:
        raise Contradiction("the provider answered for another amount")


def _url(session: Fields) -> str:
    url = session.get("url")
    if not isinstance(url, str) or not url.startswith(("https://", "http://")) or len(url) > LONGEST_URL:
        raise Unknown("the provider's answer has no page for the shopper", again=False)
    return url


def _code(error: stripe.StripeError) -> str:
    details = _details(error)
    code = details.get("code") or details.get("type")
    return as_code(code) if code else ""


def _type(error: stripe.StripeError) -> object:
    return _details(error).get("type")


def _details(error: stripe.StripeError) -> Fields:
    body = error.json_body
    details = body.get("error") if isinstance(body, dict) else None
    return details if isinstance(details, dict) else {}


def _replayed(error: stripe.StripeError) -> bool:
    return str((error.headers or {}).get("idempotent-replayed", "")).lower() == "true"


def as_code(text: object) -> str:
    """Return the text if it looks like a short code. Any other text of the provider must not enter the books."""
    return text if isinstance(text, str) and text.isidentifier() and len(text) <= 40 else "something unknown"
