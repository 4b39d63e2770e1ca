"""A transactional producer that speaks the protocol by hand."""

from typing import Any


class Transactional:
    """One holder of a transactional id. What is `changed` in a request is said instead of the truth."""

    def __init__(self, clients: Any, batch: Any, name: str | None = None, timeout_ms: int = 10_000) -> None:
        self.clients = clients
        self.batch = batch
        self.name = name or clients.name("txn")
        answer = clients.producer_id(self.name, timeout_ms)
        assert answer.error_code.name == "none"
        self.pid, self.epoch = answer.producer_id, answer.producer_epoch
        self.broker = clients.wire.coordinator_of_transactions(self.name)
        self.sequence = 0

    def identity(self, **changed: Any) -> dict[str, Any]:
        who = {"transactional_id": self.name, "producer_id": self.pid, "producer_epoch": self.epoch}
        return {**who, **changed}

    def add_partition(self, topic: str, **changed: Any) -> str:
        who = {f"v3_and_below_{key}": value for key, value in self.identity(**changed).items()}
        topics = [{"name": topic, "partitions": [0]}]

        def asked() -> Any:
            answer = self.broker.ask("add_partitions_to_txn", 0, **who, v3_and_below_topics=topics)
            return answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code.name

        return self._settled(asked)

    def add_offsets(self, group: str, **changed: Any) -> str:
        return self._settled(
            lambda: self.broker.ask("add_offsets_to_txn", 0, **self.identity(**changed), group_id=group).error_code.name
        )

    def produce(self, topic: str, *values: str, **changed: Any) -> str:
        fields = {"producer_id": self.pid, "epoch": self.epoch, "sequence": self.sequence, **changed}
        sent = self.batch(*values, **fields, transactional=True)
        error = self.clients.append(topic, sent, transactional_id=self.name).error_code.name
        if error == "none":
            self.sequence += len(values)
        return error

    def end(self, *, commit: bool, **changed: Any) -> str:
        return self._settled(
            lambda: self.broker.ask("end_txn", 1, **self.identity(**changed), committed=commit).error_code.name
        )

    def commit_offset(self, group: str, topic: str, offset: int, *, metadata: str = "", **membership: Any) -> str:
        partition = {"partition_index": 0, "committed_offset": offset, "committed_metadata": metadata}
        answer = self.clients.wire.coordinator_of_group(group).ask(
            "txn_offset_commit",
            3,
            **{**self.identity(), "group_id": group, **membership},
            topics=[{"name": topic, "partitions": [partition]}],
        )
        return answer.topics[0].partitions[0].error_code.name

    def _settled(self, ask: Any) -> str:
        """Asked again while the transaction before is still being completed."""
        error = ask()
        for _ in range(500):
            if error != "concurrent_transactions":
                break
            error = ask()
        return error


def fetched_offset(clients: Any, group: str, topic: str, *, stable: bool) -> tuple[str, int]:
    groups = [{"group_id": group, "topics": [{"name": topic, "partition_indexes": [0]}]}]
    answer = clients.wire.coordinator_of_group(group).ask("offset_fetch", 8, groups=groups, require_stable=stable)
    partition = answer.groups[0].topics[0].partitions[0]
    return partition.error_code.name, partition.committed_offset
