"""Products, orders and order lines. An order is open or placed; payment status lives on the charge."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, String, UniqueConstraint, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.database import Base, BigId, UtcDateTime, from_now

OPEN = "open"
PLACED = "placed"


class Product(Base):
    """Something to buy. `price` is in minor units; `stocked` counts all pieces ever added, `stock` those left."""

    __tablename__ = "product"
    __table_args__ = (
        CheckConstraint("price > 0", name="price_positive"),
        CheckConstraint("stock >= 0", name="stock_not_negative"),
        CheckConstraint("stocked >= stock", name="stock_within_stocked"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    slug: Mapped[str] = mapped_column(String(80), unique=True)
    name: Mapped[str] = mapped_column(String(120))
    description: Mapped[str] = mapped_column(String(2000))
    image: Mapped[str] = mapped_column(String(120))
    price: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(3))
    stock: Mapped[int] = mapped_column(Integer)
    stocked: Mapped[int] = mapped_column(Integer)
    on_sale: Mapped[bool] = mapped_column(default=True)


class Order(Base):
    """What a buyer wants to buy. An open order is the basket; a claim makes it placed. Each change raises `version`."""

    __tablename__ = "orders"
    __table_args__ = (
        CheckConstraint("state IN ('open', 'placed')", name="state_known"),
        CheckConstraint("version > 0", name="version_positive"),
        Index(
            "uq_orders_one_open_per_buyer",
            "buyer_id",
            unique=True,
            postgresql_where=text("state = 'open'"),
            sqlite_where=text("state = 'open'"),
        ),
        Index("ix_orders_buyer_id_id", "buyer_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    buyer_id: Mapped[UUID] = mapped_column(Uuid)
    state: Mapped[str] = mapped_column(String(6), default=OPEN)
    version: Mapped[int] = mapped_column(Integer, default=1)
    currency: Mapped[str] = mapped_column(String(3))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=from_now(0))

    lines: Mapped[list["OrderLine"]] = relationship(
        order_by="OrderLine.product_id", lazy="selectin", cascade="all, delete-orphan"
    )

    @property
    def total(self) -> int:
        """Return minor units: today's prices while the order is open, the frozen ones once it is placed."""
        return sum(line.amount for line in self.lines)


class OrderLine(Base):
    """A number of pieces of one product. `unit_price` is the price when added; the claim sets it to the price paid."""

    __tablename__ = "order_line"
    __table_args__ = (
        UniqueConstraint("order_id", "product_id"),
        CheckConstraint("quantity > 0", name="quantity_positive"),
        CheckConstraint("unit_price > 0", name="unit_price_positive"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id"))
    quantity: Mapped[int] = mapped_column(Integer)
    unit_price: Mapped[int] = mapped_column(BigInteger)

    order: Mapped[Order] = relationship(back_populates="lines", lazy="joined")
    product: Mapped[Product] = relationship(lazy="joined")

    @property
    def price(self) -> int:
        """Return minor units: today's price while the order is open, the frozen one once it is placed."""
        return self.unit_price if self.order.state == PLACED else self.product.price

    @property
    def amount(self) -> int:
        return self.price * self.quantity
