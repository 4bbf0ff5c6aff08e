"""Limits on fruitless tries: a declined card, a cancelled payment, or the same order as a stranger's just before.

Card testers find out which stolen cards work by paying with them. They use a new cookie for each try, from one network
or from many, so neither a cookie nor an address identifies them. Honest shoppers share addresses: an office, a school
or a mobile network can be one IPv4 address. A limit per address alone would lock all of them out because of one
tester, which a competitor could want. So both buyer and network count:

1. Each buyer has the limit PER_BUYER. It allows honest mistakes, and soon stops a tester who keeps a cookie.
2. A network below PER_NETWORK has no other limit. Many declines in a short time can be normal, for example while a
   bank is out of order.
3. Above it the network is *busy*. Then it matters what a buyer has done before:
   - A buyer who has paid here before has only the limit PER_BUYER. Such a cookie costs a tester a working card.
   - A buyer with PER_BUYER_IF_BUSY fruitless tries must wait for ten minutes.
   - All others share two allowances for fruitless tries: RETURNING for buyers that we knew before the network's
     present hour of counting began, NEWCOMERS for new ones. A payment that succeeds uses nothing of them.

So a tester's new cookies do not hinder shoppers who were here before, nor new shoppers as long as fewer than NEWCOMERS
fruitless tries a minute come from the network. If a tester sends more without pause, new shoppers may have to wait:
nothing distinguishes their first visit from the tester's next try. That is the price of the bound. It affects only new
shoppers of this one network, and only while the tester goes on.

A network can make PER_NETWORK tries and 60 × (NEWCOMERS + RETURNING) in an hour, 650 in all, and those that are under
way when it becomes busy. An allowance is taken before the bank is asked, so simultaneous requests gain nothing.
With memory:// each worker counts for itself, which multiplies the bound by the number of workers.

A tester with thousands of networks makes one try from each. No count per network can see that, and with a limit for
the whole shop anybody could turn the shop off. So it is only logged (`fruitless_tries`): a person must look, and the
gateway's own protection must act. Confirmation at the bank (3-D Secure) is the best one.

A form that was claimed already leads to its receipt before these limits are checked.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from limits import RateLimitItem, parse

from app import limiter
from app.logs import Seldom
from app.security import buyer_id, buyer_since

FRUITLESS = 3
"""The weight of a try that was fruitless."""

CONFLICT = 1
"""The weight of a form that could not be paid because the order had changed or had been ordered before. It counts only
for its buyer, because it happens to many honest shoppers at once when something is sold out."""

PER_BUYER = parse(f"{10 * FRUITLESS} per 10 minutes")
PER_BUYER_IF_BUSY = 3 * FRUITLESS
PER_NETWORK = parse(f"{50 * FRUITLESS} per hour")
NEWCOMERS = parse("6 per minute")
RETURNING = parse("4 per minute")
PER_SHOP = parse(f"{200 * FRUITLESS} per 10 minutes")
"""Above this, a line is logged once a minute."""

log = structlog.get_logger()
seldom = Seldom()


class TooManyTries(Exception):
    """Too many tries were fruitless. `network`: those of the network; the buyer may try again in a minute."""

    def __init__(self, *, network: bool) -> None:
        super().__init__()
        self.network = network


@dataclass
class Try:
    """One try. The view sets its weight if it took no money."""

    weight: int = 0


@contextmanager
def admitted(has_paid: Callable[[], bool]) -> Iterator[Try]:
    """Let this browser try to pay, and count how the block ended. Raises TooManyTries before the block begins.

    `has_paid` says whether this buyer has paid before. It is called only if the network is busy.
    """
    allowance = _allowance(has_paid)
    this_try = Try()
    try:
        yield this_try
    finally:
        if this_try.weight:
            count(this_try.weight)
        if allowance and this_try.weight < FRUITLESS:
            limiter.give_back(allowance, "newcomers or returning", limiter.network())


def _allowance(has_paid: Callable[[], bool]) -> RateLimitItem | None:
    """Return the allowance of which this try has taken one, or None if it needs none. Raises TooManyTries."""
    own = limiter.window(PER_BUYER, "tries", buyer_id().hex)
    if own.used >= PER_BUYER.amount:
        raise TooManyTries(network=False)
    of_network = limiter.window(PER_NETWORK, "tries", limiter.network())
    if of_network.used < PER_NETWORK.amount or has_paid():
        return None
    if own.used >= PER_BUYER_IF_BUSY:
        raise TooManyTries(network=False)
    # The time in the cookie is cut to whole seconds.
    allowance = RETURNING if buyer_since() + 1 < of_network.began else NEWCOMERS
    if not limiter.take(allowance, "newcomers or returning", limiter.network()):
        if seldom():
            log.warning("network_slowed", network=limiter.network())
        raise TooManyTries(network=True)
    return allowance


def count(weight: int) -> None:
    """Count a try for this browser; if it was fruitless, also for its network and the shop."""
    limiter.count(PER_BUYER, "tries", buyer_id().hex, weight=weight)
    if weight < FRUITLESS:
        return
    limiter.count(PER_NETWORK, "tries", limiter.network(), weight=weight)
    if not limiter.count(PER_SHOP, "tries", "shop", weight=weight) and seldom():
        log.error("fruitless_tries", more_than=PER_SHOP.amount // FRUITLESS, minutes=10)
