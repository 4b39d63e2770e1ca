import sys
import textwrap
import types
from collections.abc import Callable
from typing import Any

import pytest

from millstream import Service, System, Topic
from millstream.declare import Contract

HEAD = """
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Literal
from uuid import UUID
from millstream import *
from millstream import Scale

"""


@pytest.fixture
def system_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., System]:
    """`system_of(source, topic="shop.events")`: a system whose one topic has the event classes in `source`."""

    def make(source: str, topic: str = "shop.events", **options: Any) -> System:
        module = types.ModuleType("shop")
        monkeypatch.setitem(sys.modules, "shop", module)
        exec(HEAD + textwrap.dedent(source), module.__dict__)
        classes = [
            of
            for of in vars(module).values()
            if isinstance(of, type) and issubclass(of, Contract) and of.__module__ == "shop" and of.__key_field__
        ]
        vars(module)["events"] = Topic(topic, *classes, **options)
        vars(module)["desk"] = Service("desk", publishes=classes)
        return System("shop", ["shop:desk"])

    return make
