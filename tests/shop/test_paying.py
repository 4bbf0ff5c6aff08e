"""A complete purchase, from the catalogue to the receipt."""

from tests.factories import MUG, fields
from tests.shops import Shop


def test_a_shopper_pays_and_is_redirected_to_the_receipt(shop: Shop) -> None:
    shopper = shop.shopper()
    basket = shopper.open("/").follow("Morning mug").submit("Add to basket", How_many=2)
    assert basket.statuses == [303, 200]
    receipt = basket.follow("Go to checkout").submit("Pay €48.00", **fields())
    assert receipt.statuses == [303, 200]
    assert receipt.path.startswith("/receipts/")
    assert receipt.heading == "Paid: €48.00"
    assert "Ada Example" in receipt.text
    [entry] = shop.statement()
    assert (entry.kind, entry.amount, entry.currency) == ("charge", 4800, "EUR")
    assert shop.stock(MUG) == 198
