"""An aggregate: commands are decided on, one at a time for each key, and what was decided is the only truth.

class Order(Aggregate, unchanged_by=(CancelRefused,)):
    status: str = "open"

    @decides
    def cancel(self, command: CancelOrder) -> OrderCancelled | CancelRefused: ...

    @evolves
    def cancelled(self, event: OrderCancelled) -> Self: ...

Order.mount(ordering)
"""

from millstream.patterns.aggregate.aggregate import Aggregate, decides, evolves
from millstream.patterns.aggregate.history import Change, history, state_at
from millstream.patterns.aggregate.rebuild import rebuild
from millstream.patterns.aggregate.replay import Version, replay

__all__ = ["Aggregate", "Change", "Version", "decides", "evolves", "history", "rebuild", "replay", "state_at"]
