"""Personal data is masked wherever a class says so, however deep, and is no key."""

from typing import Annotated

import msgspec
import pytest

from millstream import Alias, Event, Personal, Topic, Value
from millstream.declare.personal import MASK, has_personal, holds_personal, masked, shown
from millstream.errors import DeclarationError

Email = Annotated[str, Personal]


class Address(Value):
    street: Annotated[str, Personal()]
    country: str


class Parcel(Value):
    to: Address | None = None
    grams: int


class Part(Value):
    name: Email
    parts: "tuple[Part, ...]" = ()


class Everything(Event, key="order_id"):
    order_id: str
    email: Email
    phone: Annotated[str | None, Personal] = None
    fax: Email | None = None
    addresses: tuple[Address, ...] = ()
    by_kind: dict[str, Address] = msgspec.field(default_factory=dict)
    emails: tuple[Email, ...] = ()
    pair: tuple[str, Email] = ("", "")
    parcel: Parcel | None = None
    either: Parcel | Address | None = None
    whole: Annotated[Address | None, Personal] = None
    part: Part | None = None


HOME = Address(street="Baker Street", country="GB")
FULL = Everything(
    order_id="o-1",
    email="ada@example.org",
    phone="221",
    fax="222",
    addresses=(HOME, HOME),
    by_kind={"home": HOME},
    emails=("ada@example.org",),
    pair=("work", "bob@example.org"),
    parcel=Parcel(to=HOME, grams=7),
    either=HOME,
    whole=HOME,
    part=Part(name="Ada", parts=(Part(name="Bob"),)),
)
SECRETS = ("example.org", "Baker", "221", "222", "Ada", "Bob")


def test_every_personal_field_is_masked_and_nothing_else():
    home = {"street": MASK, "country": "GB"}
    assert masked(Everything, msgspec.to_builtins(FULL)) == {
        "order_id": "o-1",
        "email": MASK,
        "phone": MASK,
        "fax": MASK,
        "addresses": [home, home],
        "by_kind": {"home": home},
        "emails": [MASK],
        "pair": ["work", MASK],
        "parcel": {"to": home, "grams": 7},
        "either": home,
        "whole": MASK,
        "part": {"name": MASK, "parts": [{"name": MASK, "parts": []}]},
    }


def test_what_is_absent_stays_absent():
    assert masked(Address, {"street": None, "country": "GB"}) == {"street": None, "country": "GB"}
    assert masked(Everything, "no record") == "no record"


def test_a_branch_of_a_union_may_come_under_its_name():
    assert masked(Everything, {"either": {"Address": {"street": "Baker Street", "country": "GB"}}}) == {
        "either": {"Address": {"street": MASK, "country": "GB"}}
    }
    assert masked(Everything, {"either": {"to": None, "grams": 7}}) == {"either": {"to": None, "grams": 7}}


def test_older_records_are_masked_by_former_names_and_what_the_class_has_no_more():
    class Renamed(Value):
        id: str
        mail: Annotated[str, Alias("email"), Personal]

    assert masked(Renamed, {"id": "1", "email": "ada@example.org", "phone": "221"}) == {
        "id": "1",
        "email": MASK,
        "phone": MASK,
    }


def test_a_class_without_personal_fields_costs_nothing():
    plain = {"grams": 1}
    assert has_personal(Everything)
    assert has_personal(Parcel)
    assert has_personal(Part)

    class Weighed(Value):
        grams: int

    assert not has_personal(Weighed)
    assert masked(Weighed, plain) is plain


def test_logs_show_records_without_their_personal_parts():
    assert shown(HOME) == f"Address(street={MASK}, country='GB')"
    assert holds_personal({"events": [FULL]})
    assert not holds_personal({"events": [1, "Ada"]})
    said = shown({"events": [HOME, FULL.parcel]})
    assert not any(secret in said for secret in SECRETS)
    assert "grams=7" in said


def test_a_key_is_never_personal():
    class Joined(Event, key="email"):
        email: Annotated[str, Personal]

    with pytest.raises(
        DeclarationError, match=r"Joined\.email is the key and cannot be Personal: .* Make the key an id"
    ):
        Topic("personal.joined", Joined)
