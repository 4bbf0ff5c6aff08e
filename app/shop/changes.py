"""What changed between the showing of a form and now, in words for the shopper."""

from app.money import format_money
from app.orders.models import Order, OrderLine
from app.shop import texts


def since_added(order: Order, locale: str) -> list[str]:
    """What is different from when each thing was put into the basket: price, stock, gone."""
    return [text for line in order.lines for text in _line(line, locale)]


def since_shown(order: Order | None, shown_version: int, shown_total: int, currency: str, locale: str) -> list[str]:
    """Why the form that arrived is not what would be paid now, totals first."""
    said = []
    if order is None or order.version != shown_version:
        said.append(texts.CHANGED_BASKET)
    if order is not None and order.total != shown_total:
        before, now = (format_money(amount, currency, locale) for amount in (shown_total, order.total))
        said.append(texts.CHANGED_TOTAL.format(before=before, now=now))
    return said + (since_added(order, locale) if order else [])


def payable(order: Order) -> bool:
    """Whether every thing in the basket can be had as often as it is in there."""
    return all(line.product.on_sale and line.product.stock >= line.quantity for line in order.lines)


def _line(line: OrderLine, locale: str) -> list[str]:
    product = line.product
    if not product.on_sale or product.stock == 0:
        return [texts.CHANGED_GONE.format(name=product.name)]
    said = []
    if product.stock < line.quantity:
        said.append(texts.CHANGED_STOCK.format(name=product.name, left=product.stock))
    if product.price != line.unit_price:
        before, now = (format_money(price, product.currency, locale) for price in (line.unit_price, product.price))
        said.append(texts.CHANGED_PRICE.format(name=product.name, before=before, now=now))
    return said
