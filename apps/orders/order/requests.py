"""What clients may send. Separate from the events: these are checked, with a message for each field that is wrong."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

MAX_LINES = 2_000
MAX_MONEY = Decimal(10) ** 10
"""No order is worth more; it also keeps every total within what events can carry."""

_PLAIN = r"^[^\x00-\x1f\x7f]+$"
_CENT_OF_A_CENT = Decimal("0.0001")


def _number_or_text(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValueError('a price is a number, or a text such as "1.65"')
    return value


def _four_decimals(price: Decimal) -> Decimal:
    return price.quantize(_CENT_OF_A_CENT)


Price = Annotated[
    Decimal,
    BeforeValidator(_number_or_text),
    Field(strict=False, ge=0, le=1_000_000, decimal_places=4, examples=["1.65"]),
    AfterValidator(_four_decimals),
]
Quantity = Annotated[int, Field(ge=1, le=100_000, examples=[12])]
ProductCode = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=_PLAIN)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=_PLAIN)]


class Strict(BaseModel):
    """Nothing is converted and nothing unknown is overlooked."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)


class Line(Strict):
    """So many of one product, at a price each."""

    product: ProductCode
    quantity: Quantity
    unit_price: Price


class Goods(Strict):
    """What orders and returns have in common."""

    customer: Text | None = Field(None, description="Who orders; none for a guest")
    country: Text | None = Field(None, description="Where it goes")
    reference: Text | None = Field(None, description="Your own number for it, such as an invoice number")
    lines: Annotated[list[Line], Field(min_length=1, max_length=MAX_LINES)]

    @property
    def total(self) -> Decimal:
        """What all lines cost, exactly."""
        return sum((line.quantity * line.unit_price for line in self.lines), Decimal("0.0000"))


class NewOrder(Goods):
    """An order."""


class NewReturn(Goods):
    """Goods that come back; accepted as goodwill, so no order has to be named."""


class Delivery(Strict):
    """Goods of one product that arrived in the warehouse."""

    product: ProductCode
    name: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_PLAIN)]
    quantity: Annotated[int, Field(ge=1, le=10_000_000)]


class Deliveries(Strict):
    """Several products at once."""

    products: Annotated[list[Delivery], Field(min_length=1, max_length=1_000)]


class Accepted(BaseModel):
    """It is written down, and the rest happens by itself: follow it at `Location`."""

    id: str
    total: Decimal
