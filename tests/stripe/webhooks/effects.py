"""What the provider's events have changed in the shop."""

import httpx

from app.charges import audit
from tests.shops import Shop
from tests.stripe.provider.server import Provider

COMPLETED = "checkout.session.completed"


def events(shop: Shop) -> list[tuple[str, str]]:
    """Return the kind and the effect of each stored event, in the order of arrival."""
    return [tuple(row) for row in shop.rows("SELECT kind, effect FROM webhook_event ORDER BY id")]


def paid_once(shop: Shop, provider: Provider) -> bool:
    """Check every invariant. Return whether there is one payment, in the shop and at the provider."""
    with shop.app.app_context():
        report = audit.audit(shop.gateways.current.statement(), overdue=60)
    assert report.broken == {}, report
    return shop.charges() == {"succeeded": 1} and len(provider.paid()) == 1


def session_id_of(answer: httpx.Response) -> str:
    """Return the id of the session that the answer redirects to."""
    return answer.headers["Location"].rsplit("/", 1)[1]
