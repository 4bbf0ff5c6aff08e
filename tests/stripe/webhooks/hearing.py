"""What became of the provider's events."""

import httpx

from app.charges import audit
from tests.shops import Shop
from tests.stripe.provider.server import Provider

ENDED = "checkout.session.completed"


def events(shop: Shop) -> list[tuple[str, str]]:
    return [tuple(row) for row in shop.rows("SELECT kind, effect FROM webhook_event ORDER BY id")]


def paid_once(shop: Shop, provider: Provider) -> bool:
    with shop.app.app_context():
        report = audit.audit(shop.gateways.current.statement(), overdue=60)
    assert report.broken == {}, report
    return shop.charges() == {"succeeded": 1} and len(provider.paid()) == 1


def session_of(answer: httpx.Response) -> str:
    return answer.headers["Location"].rsplit("/", 1)[1]
