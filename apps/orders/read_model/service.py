"""The read model: a view of every order and return, and their histories."""

from millstream import Envelope, Service
from millstream.patterns.view import View
from millstream.patterns.view.sql import SqlSink
from orders.contracts import OrderEvent, ReturnEvent
from orders.read_model import history, queries
from orders.read_model.rows import ORDER_EVENTS, RETURN_EVENTS, OrderRow, project

orders_view = View("orders", OrderRow, topic="orders.read-model", sinks=[SqlSink(queries.rows, queries.columns)])


@orders_view.on(*ORDER_EVENTS, *RETURN_EVENTS)
def show(event: OrderEvent | ReturnEvent, row: OrderRow | None, envelope: Envelope) -> OrderRow:
    """The row with one more event in it."""
    return project(event, row, envelope.time)


read_model = Service("read-model", tables=history.metadata, web="orders.read_model.web:app")
orders_view.mount(read_model)
read_model.on(*ORDER_EVENTS, *RETURN_EVENTS)(history.keep)
