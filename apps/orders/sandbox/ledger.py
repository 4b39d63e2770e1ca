"""What the payment gateway remembers: every charge and refund by its idempotency key, on disk before it is answered."""

import sqlite3
import threading
from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple

_TABLES = """
CREATE TABLE IF NOT EXISTS charges (
    key TEXT PRIMARY KEY,
    amount TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('charged', 'declined', 'voided', 'refunded')),
    reason TEXT
);
CREATE TABLE IF NOT EXISTS refunds (key TEXT PRIMARY KEY, amount TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS refused_refunds (key TEXT PRIMARY KEY, amount TEXT NOT NULL, reason TEXT NOT NULL);
"""


class Charge(NamedTuple):
    """One charge. `voided`: called back before it came, so it is refused for ever; `refunded`: taken and given back."""

    key: str
    amount: str
    state: str
    reason: str | None


class Refund(NamedTuple):
    """Money given to a customer without a charge before it, or refused."""

    key: str
    amount: str
    state: Literal["refunded", "refused"]
    reason: str | None


class Ledger:
    """Charges and refunds in one SQLite file. Any thread may use it; calls take turns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_TABLES)

    def charge(self, key: str, amount: Decimal, decline: str | None) -> tuple[Charge, bool]:
        """The charge under `key`, and whether it is new. `decline`: why a new one is refused, or `None`."""
        with self._lock:
            if (known := self._find(key)) is not None:
                return known, False
            charge = Charge(key, str(amount), "declined" if decline else "charged", decline)
            self._db.execute("INSERT INTO charges VALUES (?, ?, ?, ?)", charge)
            return charge, True

    def find(self, key: str) -> Charge | None:
        """What is known under `key`."""
        with self._lock:
            return self._find(key)

    def void(self, key: str) -> Decimal:
        """Gives a charge back, or forbids it where it has not come yet; what was given back, now or before."""
        with self._lock:
            known = self._find(key)
            if known is None:
                self._db.execute("INSERT INTO charges VALUES (?, '0', 'voided', 'voided')", (key,))
            elif known.state == "charged":
                self._db.execute("UPDATE charges SET state = 'refunded', reason = 'voided' WHERE key = ?", (key,))
            return Decimal(known.amount) if known is not None and known.state in ("charged", "refunded") else Decimal(0)

    def refund(self, key: str, amount: Decimal, refuse: str | None) -> Refund:
        """Gives `amount`, once for each key. `refuse`: why a new one is refused, for good, or `None`."""
        with self._lock:
            if (known := self._find_refund(key)) is not None:
                return known
            if refuse is None:
                self._db.execute("INSERT INTO refunds VALUES (?, ?)", (key, str(amount)))
                return Refund(key, str(amount), "refunded", None)
            self._db.execute("INSERT INTO refused_refunds VALUES (?, ?, ?)", (key, str(amount), refuse))
            return Refund(key, str(amount), "refused", refuse)

    def charges(self) -> list[Charge]:
        """All of them, in the order in which they came."""
        with self._lock:
            return [Charge(*row) for row in self._db.execute("SELECT * FROM charges ORDER BY rowid")]

    def refunds(self) -> list[Refund]:
        """All that were given, in the order in which they came."""
        with self._lock:
            rows = self._db.execute("SELECT * FROM refunds ORDER BY rowid")
            return [Refund(key, amount, "refunded", None) for key, amount in rows]

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()

    def _find(self, key: str) -> Charge | None:
        row = self._db.execute("SELECT * FROM charges WHERE key = ?", (key,)).fetchone()
        return Charge(*row) if row else None

    def _find_refund(self, key: str) -> Refund | None:
        if row := self._db.execute("SELECT * FROM refunds WHERE key = ?", (key,)).fetchone():
            key, amount = row
            return Refund(key, amount, "refunded", None)
        if row := self._db.execute("SELECT key, amount, reason FROM refused_refunds WHERE key = ?", (key,)).fetchone():
            key, amount, reason = row
            return Refund(key, amount, "refused", reason)
        return None
