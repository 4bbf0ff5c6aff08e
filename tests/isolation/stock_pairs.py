"""The pairs of claims that compete for goods."""

from sqlalchemy import text

from app.charges import holds
from app.charges.rows import ChargeSnapshot
from app.database import transaction
from tests.charges.gateways import NEEDS_SHOPPER
from tests.factories import MUG, order, purchase
from tests.isolation.acts import claimed, claims, due, ended, knows, pays, recovers
from tests.isolation.schedules import Start


def _stock_of_mugs(pieces: int) -> None:
    with transaction() as tx:
        tx.execute(text(f"UPDATE product SET stock = {pieces}, stocked = {pieces} WHERE slug = '{MUG}'"))


def last_piece() -> Start:
    _stock_of_mugs(1)
    return Start([pays(purchase(order())), pays(purchase(order()))])


def network_and_network() -> Start:
    """Two claims of one network that together would hold too much."""
    _stock_of_mugs(4)
    return Start([claims(purchase(order({MUG: 2}), network="one", hold=0)) for _ in range(2)], unfinished=True)


def held_goods() -> ChargeSnapshot:
    """Return an unconfirmed payment that holds two mugs, for no longer than nobody else needs them."""
    return ended(claimed(order({MUG: 2}), hold=0), NEEDS_SHOPPER)


def claim_and_release() -> Start:
    """A claim needs the goods that recovery is releasing, because another claim has needed them before."""
    _stock_of_mugs(2)
    tokens = [order({MUG: 2}) for _ in range(2)]
    charge = held_goods()
    holds.want(tokens[0])
    due()
    return Start([pays(purchase(tokens[1])), recovers()], knows((charge, NEEDS_SHOPPER)))


def claims_that_lack_goods() -> Start:
    """Both find too little stock and mark the same unconfirmed payments."""
    _stock_of_mugs(4)
    tokens = [order({MUG: 2}), order({MUG: 4})]
    charges = held_goods(), held_goods()
    acts = [pays(purchase(token)) for token in tokens]
    return Start(acts, knows(*((charge, NEEDS_SHOPPER) for charge in charges)), unfinished=True)
