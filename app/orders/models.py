"""Products, orders and order lines. An order is open or placed; payment status lives on the charge."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    UniqueConstraint,
    Uuid,
    text,
)
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
    """What a buyer wants to buy. An open order is the basket; a claim makes it placed. Each change renews `version`."""

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
        Index("uq_orders_random_id", "random_id", unique=True),
        Index(
            "ix_orders_in_use_at",
            "in_use_at",
            postgresql_where=text("in_use_at IS NOT NULL"),
            sqlite_where=text("in_use_at IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    buyer_id: Mapped[UUID] = mapped_column(Uuid)
    state: Mapped[str] = mapped_column(String(6), default=OPEN)
    random_id: Mapped[UUID] = mapped_column(Uuid)
    """What tokens name the order by. Unlike `id`, it is never used again after a restore to an earlier moment."""
    version: Mapped[int] = mapped_column(BigInteger)
    """A random number, new with each change. A counter would reach the same value again after a restore."""
    currency: Mapped[str] = mapped_column(String(3))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=from_now(0))
    in_use_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When the basket was changed or its form shown, up to a day later than written here. None after a claim: an order
    with a charge is never purged."""

    lines: Mapped[list["OrderLine"]] = relationship(
        order_by="OrderLine.product_id", lazy="selectin", cascade="all, delete-orphan"
    )

    @property
    def total(self) -> int:
        """Return the total in minor units, at today's prices. A charge's lines contain the prices that were paid."""
        return sum(line.amount for line in self.lines)


class OrderLine(Base):
    """A number of pieces of one product. `unit_price` is the price when it was added, in minor units."""

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

    product: Mapped[Product] = relationship(lazy="joined")

    @property
    def name(self) -> str:
        """Return the product's name."""
        return self.product.name

    @property
    def price(self) -> int:
        """Return today's price per piece, in minor units."""
        return self.product.price

    @property
    def amount(self) -> int:
        """Return today's price of the line, in minor units."""
        return self.price * self.quantity


class ChargeLine(Base):
    """A line as it was claimed: a snapshot that never changes, also if the order is opened again and edited."""

    __tablename__ = "charge_line"
    __table_args__ = (
        CheckConstraint("quantity > 0", name="quantity_positive"),
        CheckConstraint("unit_price > 0", name="unit_price_positive"),
    )

    charge_id: Mapped[int] = mapped_column(ForeignKey("charge.id"), primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    product_id: Mapped[int | None] = mapped_column(ForeignKey("product.id"))
    """None for a payment that was adopted from the gateway's statement: its goods are not known."""
    name: Mapped[str] = mapped_column(String(120))
    quantity: Mapped[int] = mapped_column(Integer)
    unit_price: Mapped[int] = mapped_column(BigInteger)

    @property
    def amount(self) -> int:
        """Return minor units."""
        return self.unit_price * self.quantity
