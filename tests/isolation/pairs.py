"""The pairs of actors, and the ways in which each pair may end."""

from app.charges import protocol, same_order
from tests.charges.gateways import APPROVED, DECLINED
from tests.factories import BOWL, MUG, order, purchase, show_again
from tests.isolation.acts import (
    SECONDS,
    an_event,
    asks,
    cancels,
    claimed,
    due,
    ended,
    knows,
    pays,
    puts,
    receives,
    records,
    records_event,
    recovers,
)
from tests.isolation.bank import Bank
from tests.isolation.basket_pairs import (
    claim_and_forget,
    claim_and_purge,
    decline_and_forget,
    declined_claim_and_purge,
    forget_and_purge,
    put_and_forget,
    put_and_purge,
    stray_and_forget,
    success_and_forget,
    two_forgets,
    two_purges,
)
from tests.isolation.refund_pairs import (
    declined_refund_and_refund,
    late_event_and_refund,
    refund_and_event,
    refund_and_recovery,
    refund_events,
    same_refund,
    strays_twice,
    two_refunds,
)
from tests.isolation.schedules import Act, Start, either, pair_of
from tests.isolation.stock_pairs import (
    claim_and_release,
    claims_that_lack_goods,
    last_piece,
    network_and_network,
)

# Claims


def same_form() -> Start:
    token = order()
    return Start([pays(purchase(token)), pays(purchase(token))])


def same_form_declined() -> Start:
    token = order()
    return Start([pays(purchase(token)), pays(purchase(token))], lambda: Bank(DECLINED))


def two_tabs() -> Start:
    token = order()
    return Start([pays(purchase(token)), pays(purchase(show_again(token.buyer_id)))])


def two_tabs_declined() -> Start:
    token = order()
    acts = [pays(purchase(token)), pays(purchase(show_again(token.buyer_id)))]
    return Start(acts, lambda: Bank(DECLINED, APPROVED))


def reverse_baskets() -> Start:
    return Start([pays(purchase(order({MUG: 1, BOWL: 2}))), pays(purchase(order({BOWL: 1, MUG: 2})))])


def reverse_baskets_declined() -> Start:
    acts = [pays(purchase(order({MUG: 1, BOWL: 2}))), pays(purchase(order({BOWL: 1, MUG: 2})))]
    return Start(acts, lambda: Bank(DECLINED))


def same_fingerprint() -> Start:
    return Start([pays(purchase(order(), email="ada@example.org")) for _ in range(2)])


def claim_and_put() -> Start:
    token = order()
    return Start([pays(purchase(token)), puts(token.buyer_id, BOWL, 1)])


def claim_and_success() -> Start:
    token = order()
    charge = claimed(token)
    acts = [pays(purchase(show_again(token.buyer_id))), records(charge, APPROVED)]
    return Start(acts, knows((charge, APPROVED)))


def claim_and_decline() -> Start:
    token = order({MUG: 1, BOWL: 1})
    charge = claimed(token)
    acts = [pays(purchase(show_again(token.buyer_id))), records(charge, DECLINED)]
    return Start(acts, knows((charge, DECLINED)))


def claim_and_others_decline() -> Start:
    charge = claimed(order({MUG: 1, BOWL: 1}))
    acts = [pays(purchase(order({BOWL: 1, MUG: 1}))), records(charge, DECLINED)]
    return Start(acts, knows((charge, DECLINED)))


def stray_and_claim() -> Start:
    token = order()
    first = claimed(token)
    ended(first, DECLINED)
    acts = [pays(purchase(show_again(token.buyer_id))), records(first, APPROVED)]
    return Start(acts, knows((first, APPROVED)))


def claim_and_prune() -> Start:
    """The guard of the fingerprint exists, but no entry matters any more."""
    email = "ada@example.org"
    declined = claimed(order(), email=email)
    ended(declined, DECLINED)
    return Start([pays(purchase(order(), email=email)), Act(lambda bank: same_order.prune())])


# Outcomes


def success_twice() -> Start:
    charge = claimed(order())
    return Start([records(charge, APPROVED), records(charge, APPROVED)], knows((charge, APPROVED)))


def decline_twice() -> Start:
    charge = claimed(order({MUG: 1, BOWL: 1}))
    return Start([records(charge, DECLINED), records(charge, DECLINED)], knows((charge, DECLINED)))


def success_and_decline() -> Start:
    """A bank that contradicts itself: if the decline is first, the money is a stray payment."""
    charge = claimed(order())
    return Start([records(charge, APPROVED), records(charge, DECLINED)], knows((charge, APPROVED)))


def declines_of_two() -> Start:
    first, second = claimed(order({MUG: 1, BOWL: 1})), claimed(order({BOWL: 1, MUG: 1}))
    return Start([records(first, DECLINED), records(second, DECLINED)], knows((first, DECLINED), (second, DECLINED)))


def success_and_recovery() -> Start:
    charge = claimed(order())
    due()
    return Start([records(charge, APPROVED), recovers()], knows((charge, APPROVED)))


def ask_and_recovery() -> Start:
    """A worker finds the charge before its request has asked the bank: one of them is told what the other did."""
    press = purchase(order())
    charge = protocol.claim(press, Bank(), SECONDS)
    due()
    return Start([asks(press, charge), recovers()])


def ask_and_cancel() -> Start:
    """The shopper gives up in another tab. The bank returns the outcome that won to both."""
    press = purchase(order())
    charge = protocol.claim(press, Bank(), SECONDS)
    return Start([asks(press, charge), cancels(charge)])


def two_workers() -> Start:
    charge = claimed(order())
    due()
    return Start([recovers(), recovers()], knows((charge, APPROVED)))


def cancel_and_success() -> Start:
    """The shopper gives up while the success is being recorded. The bank returns the outcome that won."""
    charge = claimed(order())
    return Start([cancels(charge), records(charge, APPROVED)], knows((charge, APPROVED)))


def event_and_success() -> Start:
    charge = claimed(order())
    return Start([receives(an_event(charge)), records(charge, APPROVED)], knows((charge, APPROVED)))


def event_twice() -> Start:
    charge = claimed(order())
    event = an_event(charge)
    return Start([receives(event), receives(event)], knows((charge, APPROVED)))


def two_late_events() -> Start:
    """Two webhooks of one payment, such as Stripe's charge.succeeded and payment_intent.succeeded.

    Both have read the charge before the request that asked the bank recorded its success.
    """
    charge = claimed(order())
    ended(charge, APPROVED)
    return Start([records_event(charge), records_event(charge)], knows((charge, APPROVED)))


PAID_AND_PROCESSING = either("own succeeded", "the other's processing")
DECLINED_AND_PROCESSING = either("own declined", "the other's processing")

PAIRS = (
    pair_of(same_form, *either("own succeeded", "the other's succeeded"), *PAID_AND_PROCESSING),
    pair_of(same_form_declined, *either("own declined", "the other's declined"), *DECLINED_AND_PROCESSING),
    pair_of(two_tabs, *either("own succeeded", "the other's succeeded"), *PAID_AND_PROCESSING),
    # The second tab may pay the order once the first one was declined.
    pair_of(two_tabs_declined, *either("own declined", "own succeeded"), *DECLINED_AND_PROCESSING),
    pair_of(reverse_baskets, "own succeeded | own succeeded"),
    pair_of(reverse_baskets_declined, "own declined | own declined"),
    pair_of(last_piece, *either("own succeeded", "SoldOut")),
    pair_of(network_and_network, *either("own processing", "NetworkFull")),
    pair_of(claim_and_release, "SoldOut | 1", "own succeeded | 1"),
    pair_of(claims_that_lack_goods, "SoldOut | SoldOut"),
    pair_of(same_fingerprint, *either("own succeeded", "OrderedBefore")),
    pair_of(claim_and_put, "own succeeded | OrderPlaced", "OrderChanged | None"),
    pair_of(claim_and_success, "the other's processing | succeeded", "the other's succeeded | succeeded"),
    pair_of(claim_and_decline, "the other's processing | declined", "own succeeded | declined"),
    pair_of(claim_and_others_decline, "own succeeded | declined"),
    pair_of(stray_and_claim, "own succeeded | declined"),
    pair_of(claim_and_prune, "own succeeded | 1", "own succeeded | 2"),
    pair_of(claim_and_purge, "own succeeded | 0", "OrderUnknown | 1"),
    pair_of(declined_claim_and_purge, "own declined | 0", "OrderUnknown | 1"),
    pair_of(put_and_purge, "None | 0", "None | 1"),
    pair_of(two_purges, *either("0", "1")),
    pair_of(claim_and_forget, "own succeeded | None", "own succeeded | PaymentPending", "OrderUnknown | None",
            "OrderChanged | None"),
    pair_of(decline_and_forget, "declined | None", "declined | PaymentPending"),
    pair_of(success_and_forget, "succeeded | None", "succeeded | PaymentPending"),
    pair_of(stray_and_forget, "declined | None"),
    pair_of(put_and_forget, "None | None"),
    pair_of(two_forgets, "None | None"),
    pair_of(forget_and_purge, "None | 0", "None | 1"),
    pair_of(success_twice, "succeeded | succeeded"),
    pair_of(decline_twice, "declined | declined"),
    pair_of(success_and_decline, "succeeded | succeeded", "declined | declined"),
    pair_of(declines_of_two, "declined | declined"),
    pair_of(success_and_recovery, "succeeded | 0", "succeeded | 1"),
    pair_of(ask_and_recovery, "own succeeded | 0", "own succeeded | 1", "own canceled | 1"),
    pair_of(ask_and_cancel, "own succeeded | True", "own canceled | True"),
    pair_of(two_workers, *either("0", "1")),
    pair_of(cancel_and_success, "True | succeeded"),
    pair_of(event_and_success, "recorded | succeeded"),
    pair_of(event_twice, "recorded | recorded"),
    pair_of(two_late_events, "recorded | recorded"),
    pair_of(two_refunds, *either("succeeded", "NotRefundable")),
    pair_of(same_refund, "succeeded | succeeded"),
    pair_of(refund_and_recovery, "succeeded | 0", "succeeded | 1"),
    pair_of(declined_refund_and_refund, "declined | NotRefundable", "declined | succeeded"),
    pair_of(refund_and_event, "succeeded | noted", "succeeded | Later", "NotRefundable | recorded"),
    pair_of(refund_events, "recorded | recorded"),
    pair_of(strays_twice, "declined | declined"),
    pair_of(late_event_and_refund, "recorded | recorded"),
)  # fmt: skip


WITH_CUTS = (
    same_form, two_tabs_declined, claim_and_decline, ask_and_recovery, two_refunds, refund_and_recovery,
    event_and_success,
)  # fmt: skip
"""The pairs in which connections are cut."""

CLAIMING = (
    same_form, same_form_declined, two_tabs, two_tabs_declined, reverse_baskets, reverse_baskets_declined, last_piece,
    same_fingerprint, claim_and_put, claim_and_success, claim_and_decline, claim_and_others_decline, claim_and_prune,
)  # fmt: skip
"""The pairs with a claim in which an actor waits for a lock."""

PROBING = (same_form, two_refunds)
"""The pairs in which a lost COMMIT is probed while the other actor holds a lock."""

BY_NAME = {pair.name: pair for pair in PAIRS}
