"""Kafka for tests: brokers, faults on demand, and a pytest plugin with brokers as fixtures.

- `LocalKafka`: the local broker in another process; docs/local-platform.md shows the fixture `kafka`.
- `BrokerControl`: faults and the clock of a local broker in another process; see docs/faults.md.
- `TopologyDriver`: streams in memory and in virtual time; see docs/streams.md.

`millstream.testing.simulation` runs a whole system in virtual time; see docs/simulation.md.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from millstream.testing.faults import BrokerControl
    from millstream.testing.local import LocalKafka
    from millstream.testing.topology import TopologyDriver

__all__ = ["BrokerControl", "LocalKafka", "TopologyDriver"]

_HOMES = {"BrokerControl": "faults", "LocalKafka": "local", "TopologyDriver": "topology"}


def __getattr__(name: str) -> object:
    # Imported when first asked for: pytest loads the plugin of this package wherever millstream is installed.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name))
