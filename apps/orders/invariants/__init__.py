"""What must be true of the order system's events, whatever went wrong: `millstream verify` holds the log to it.

Everything here looks at topics that are kept for ever, so it holds of years-old orders, too.
"""

from millstream.declare.invariant import Invariants
from orders.invariants.causes import causes
from orders.invariants.order import order
from orders.invariants.returned import returned
from orders.invariants.stock import delivery, stock

invariants: Invariants = (order, returned, delivery, stock, causes)
