"""The demo catalogue: ten pieces of stoneware, as plain values for `seed`."""

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class CatalogueItem:
    """A product before it is stored. `price` is in major units: 24.00 is €24.00, and ¥2400 in yen (see `seed`)."""

    slug: str
    name: str
    description: str
    price: Decimal
    stock: int

    @property
    def image(self) -> str:
        """Return the name of the picture in static/img/products/."""
        return f"{self.slug}.svg"


CATALOGUE = (
    CatalogueItem(
        "morning-mug",
        "Morning mug",
        "A mug that holds as much coffee as a slow morning needs, with a handle wide enough for a whole hand. "
        "The pine green glaze stops short of the foot, where the bare clay stays warm to the touch. "
        "It holds 35 cl and doesn’t mind the dishwasher.",
        Decimal("24.00"),
        200,
    ),
    CatalogueItem(
        "teapot-for-two",
        "Teapot for two",
        "Round, honey coloured, and just the size of a conversation. "
        "The spout pours to the last drop without a dribble, and the bent-wood handle stays cool. "
        "A strainer is part of the pot, so there is none to lose.",
        Decimal("84.00"),
        40,
    ),
    CatalogueItem(
        "espresso-pair",
        "Espresso pair",
        "Two small cups with saucers that are meant to be mixed up: one pine, one cream. "
        "The walls are thick, so the last sip is as hot as the first. "
        "They come in a box that is ready to be given away.",
        Decimal("42.00"),
        80,
    ),
    CatalogueItem(
        "pour-over",
        "Pour-over cone",
        "One good cup, made by hand in three minutes. "
        "Ridges inside hold the paper off the wall, so that the water runs evenly and never stalls. "
        "It takes ordinary no. 2 papers and stands on any mug or jug; the glass server comes with it.",
        Decimal("46.00"),
        60,
    ),
    CatalogueItem(
        "supper-bowl",
        "Supper bowl",
        "Deep enough for soup, wide enough for noodles, and the right weight to eat from on the sofa. "
        "The rim is rolled, so that it sits well in the hand. "
        "Most people come back for the second one; it is wiser to start with two.",
        Decimal("32.00"),
        120,
    ),
    CatalogueItem(
        "everyday-plate",
        "Everyday plate",
        "A plate with a low rim that makes toast look like lunch and lunch look like an occasion. "
        "The green line is painted by hand, and no two are quite alike. "
        "They stack without a wobble and are 26 cm across.",
        Decimal("28.00"),
        150,
    ),
    CatalogueItem(
        "table-jug",
        "Table jug",
        "For water at dinner, milk at breakfast and tulips in between. "
        "A sharp lip and a full belly make it pour in one clean line. "
        "The blue is a cobalt glaze that breaks to pale where it runs thin. It holds one litre.",
        Decimal("58.00"),
        50,
    ),
    CatalogueItem(
        "butter-dish",
        "Butter dish",
        "Butter that is soft when you want it and safe from the cat. "
        "The lid is heavy enough to stay put, with a knob that buttery fingers can grip. "
        "Made for a whole 250 g block.",
        Decimal("48.00"),
        45,
    ),
    CatalogueItem(
        "bud-vase",
        "Bud vase",
        "A home for the one flower you picked on the way. "
        "Its neck holds a single stem upright, and its round foot keeps it standing when someone bumps the table. "
        "Dipped in blush and cream, 14 cm tall.",
        Decimal("26.00"),
        90,
    ),
    CatalogueItem(
        "window-planter",
        "Window planter",
        "A pot and saucer for the plant that finally survived. "
        "It drains well, breathes as clay should, and its carved band catches the evening light. "
        "We make these in small batches, and this batch is nearly gone.",
        Decimal("38.00"),
        4,
    ),
)
