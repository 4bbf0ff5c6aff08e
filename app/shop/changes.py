"""Texts that tell the shopper what changed since a page was shown."""

from collections.abc import Mapping

from app import current
from app.charges import holds
from app.database import reading
from app.money import format_money
from app.orders.models import Order, OrderLine
from app.shop import texts


def since_added(order: Order, locale: str) -> list[str]:
    """Return one text per change since each product was added to the basket: its price, its stock, or sold out."""
    may_come_back = _may_come_back(order)
    return [text for line in order.lines for text in _changes_of(line, locale, may_come_back)]


def held(order: Order) -> list[str]:
    """Return one text per line that lacks only pieces which may come back, because pending payments hold them."""
    may_come_back = _may_come_back(order)
    return [text for line in order.lines for text in _held(line, may_come_back)]


def since_shown(order: Order | None, shown_version: int, shown_total: int, currency: str, locale: str) -> list[str]:
    """Return texts that say why the form's order is not the present one. `shown_total` is in minor units."""
    notices = []
    if order is None or order.version != shown_version:
        notices.append(texts.CHANGED_BASKET)
    if order is not None and order.total != shown_total:
        before, now = (format_money(amount, currency, locale) for amount in (shown_total, order.total))
        notices.append(texts.CHANGED_TOTAL.format(before=before, now=now))
    return notices + (since_added(order, locale) if order else [])


def payable(order: Order) -> bool:
    """Return whether every product of the order is on sale and in stock in the quantity of its line."""
    return all(line.product.on_sale and line.product.stock >= line.quantity for line in order.lines)


def _may_come_back(order: Order) -> Mapping[int, int]:
    lacking = [line.product_id for line in order.lines if line.product.stock < line.quantity]
    if not lacking:
        return {}
    with reading() as tx:
        return holds.all_that_may_come_back(tx, lacking)


def _held(line: OrderLine, may_come_back: Mapping[int, int]) -> list[str]:
    product = line.product
    held = may_come_back.get(product.id, 0)
    if not (product.on_sale and product.stock < line.quantity <= product.stock + held):
        return []
    return [texts.held(product.name, product.stock, current.settings().hold)]


def _changes_of(line: OrderLine, locale: str, may_come_back: Mapping[int, int]) -> list[str]:
    product = line.product
    if held := _held(line, may_come_back):
        return held
    if not product.on_sale:
        return [texts.CHANGED_OFF_SALE.format(name=product.name)]
    if product.stock == 0:
        return [texts.CHANGED_GONE.format(name=product.name)]
    notices = []
    if product.stock < line.quantity:
        notices.append(texts.CHANGED_STOCK.format(name=product.name, left=product.stock))
    if product.price != line.unit_price:
        before, now = (format_money(price, product.currency, locale) for price in (line.unit_price, product.price))
        notices.append(texts.CHANGED_PRICE.format(name=product.name, before=before, now=now))
    return notices
