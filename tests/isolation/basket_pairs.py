"""Pairs of actors of which one deletes an unused basket, or forgets a browser."""

from uuid import UUID

from sqlalchemy import text

from app.charges import forgetting, purge
from app.database import transaction
from tests.charges.gateways import APPROVED, DECLINED
from tests.factories import BOWL, MUG, order, purchase, show_again
from tests.isolation.acts import claimed, ended, knows, pays, puts, records
from tests.isolation.bank import Bank
from tests.isolation.schedules import Act, Start


def purges() -> Act:
    return Act(lambda bank: purge.run())


def forgets(buyer_id: UUID) -> Act:
    """Forget the browser, as POST /receipts/forget does."""
    return Act(lambda bank: forgetting.forget(buyer_id))


def unused() -> None:
    """Make every basket one that nobody has used for a month."""
    with transaction() as tx:
        tx.execute(text("UPDATE orders SET in_use_at = now() - interval '32 days'"))


def claim_and_purge() -> Start:
    token = order({MUG: 1, BOWL: 1})
    unused()
    return Start([pays(purchase(token)), purges()])


def declined_claim_and_purge() -> Start:
    """The claim may come and go, so that the order is open again, before the worker looks."""
    token = order()
    unused()
    return Start([pays(purchase(token)), purges()], lambda: Bank(DECLINED))


def put_and_purge() -> Start:
    token = order()
    unused()
    return Start([puts(token.buyer_id, BOWL, 1), purges()])


def two_purges() -> Start:
    order()
    unused()
    return Start([purges(), purges()])


def claim_and_forget() -> Start:
    token = order()
    return Start([pays(purchase(token)), forgets(token.buyer_id)])


def decline_and_forget() -> Start:
    """One charge of the buyer has ended before."""
    token = order()
    ended(claimed(token), DECLINED)
    charge = claimed(show_again(token.buyer_id))
    return Start([records(charge, DECLINED), forgets(token.buyer_id)], knows((charge, DECLINED)))


def success_and_forget() -> Start:
    token = order()
    charge = claimed(token)
    return Start([records(charge, APPROVED), forgets(token.buyer_id)], knows((charge, APPROVED)))


def stray_and_forget() -> Start:
    token = order()
    charge = claimed(token)
    ended(charge, DECLINED)
    return Start([records(charge, APPROVED), forgets(token.buyer_id)], knows((charge, APPROVED)))


def put_and_forget() -> Start:
    token = order()
    return Start([puts(token.buyer_id, BOWL, 1), forgets(token.buyer_id)])


def two_forgets() -> Start:
    token = order()
    ended(claimed(token), DECLINED)
    return Start([forgets(token.buyer_id), forgets(token.buyer_id)])


def forget_and_purge() -> Start:
    token = order()
    unused()
    return Start([forgets(token.buyer_id), purges()])
