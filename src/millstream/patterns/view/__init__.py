"""A view: rows made of events, kept in a compacted topic, and from there in whatever answers queries.

    orders_view = View("orders", OrderRow, topic="orders.read-model", sinks=[SqlSink(order_table)])

    @orders_view.on(OrderCreated)
    def created(event: OrderCreated, row: OrderRow | None) -> OrderRow: ...

    read_model = Service("read-model", tables=metadata, web="orders.read_model.web:app")
    orders_view.mount(read_model)

`SqlSink` is in `millstream.patterns.view.sql`: a view without it does without SQLAlchemy.
"""

from millstream.patterns.view.sink import Listener, PositionsMoved, Row, RowsRefused, Sink
from millstream.patterns.view.view import View

__all__ = ["Listener", "PositionsMoved", "Row", "RowsRefused", "Sink", "View"]
