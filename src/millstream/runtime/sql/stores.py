"""The internal stores of an SQL worker, in the service's database: parked events and timers."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, and_, select

from millstream.declare import Kind, Service
from millstream.runtime.sql.tables import insert_into, internal_stores_table
from millstream.runtime.task.partition_task import InternalStores
from millstream.state.internal_store import InternalStore
from millstream.state.partitioned_stores import PartitionedStores


class SqlInternalStores(PartitionedStores[InternalStore[Any]]):
    """The internal stores of this instance, in memory; changes are rows of the transaction that made them."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self.declared = InternalStores.of(service, Kind.SQL)
        self._group = service.group(Kind.SQL)

    def restore(self, connection: Connection, partitions: Iterable[int]) -> None:
        """Read the committed stores of these partitions, in place of those in memory."""
        row = internal_stores_table.c
        for partition in partitions:
            stores = self._held[partition] = {declared: declared.partition() for declared in self.declared.all}
            by_name = {declared.name: store for declared, store in stores.items()}
            found = connection.execute(
                select(row.store, row.key, row.value).where(row.group_id == self._group, row.partition == partition)
            )
            for store, key, value in found:
                by_name[store].restore(key, value)

    def changed(self) -> list[int]:
        """Return the partitions that the present transaction changed."""
        return [number for number, stores in self._held.items() if any(store.changes() for store in stores.values())]

    def write(self, connection: Connection) -> None:
        """Write the changes within the transaction."""
        rows: list[dict[str, Any]] = []
        gone: list[dict[str, Any]] = []
        for partition, stores in self._held.items():
            for declared, store in stores.items():
                for key, value in store.changes().items():
                    row_key = {"group_id": self._group, "store": declared.name, "partition": partition, "key": key}
                    if value is None:
                        gone.append(row_key)
                    else:
                        rows.append({**row_key, "value": value})
        if rows:
            new = insert_into(internal_stores_table, connection.dialect.name)
            keys = [column.name for column in internal_stores_table.primary_key]
            connection.execute(new.on_conflict_do_update(index_elements=keys, set_={"value": new.excluded.value}), rows)
        for row_key in gone:
            connection.execute(
                internal_stores_table.delete().where(
                    and_(*(internal_stores_table.c[name] == value for name, value in row_key.items()))
                )
            )
