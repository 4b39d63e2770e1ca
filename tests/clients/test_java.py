"""The Java client, through Kafka's own tools and a small program: topics, configurations, records, groups,
transactions."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.clients.tools import Tools

from millstream.kafka import connect
from millstream.settings import Settings
from millstream.testing.child import wait_until
from millstream.testing.plugin import Cluster

pytestmark = pytest.mark.real


def created(tools: Tools, cluster: Cluster, topic: str, partitions: int = 1) -> str:
    options = ["--create", "--topic", topic, "--partitions", str(partitions), "--bootstrap-server", cluster.bootstrap]
    done = tools("kafka-topics", *options)
    assert done.code == 0, done.text
    return topic


def shown(tools: Tools, *command: str, when: Callable[[str], bool]) -> None:
    """Ask until the answer is right: another node of a cluster may give it, which hears of a change a moment later."""
    wait_until(lambda: when(tools(*command).text), seconds=60, what=f"the change in {' '.join(command)}", every=0.2)


def written(tools: Tools, cluster: Cluster, topic: str, *lines: str, properties: str = "") -> None:
    options = ["--bootstrap-server", cluster.bootstrap, "--topic", topic]
    for one in filter(None, properties.split(" ")):
        options += ["--reader-property", one]
    done = tools("kafka-console-producer", *options, reads="".join(f"{line}\n" for line in lines))
    assert done.code == 0 and "Error" not in done.text, done.text


def read(tools: Tools, cluster: Cluster, topic: str, count: int, *options: str) -> list[str]:
    bounds = ["--from-beginning", "--max-messages", str(count), "--timeout-ms", "15000"]
    done = tools("kafka-console-consumer", "--bootstrap-server", cluster.bootstrap, "--topic", topic, *bounds, *options)
    assert done.code == 0, done.text
    return [line for line in done.lines if not line.startswith("Processed a total")]


def test_topics_are_created_described_grown_and_deleted(tools: Tools, cluster: Cluster, topic: str):
    def topics(*arguments: str) -> tuple[int, str]:
        done = tools("kafka-topics", "--bootstrap-server", cluster.bootstrap, *arguments)
        return done.code, done.text

    config = ["--config", "retention.ms=600000"]
    assert topics("--create", "--topic", topic, "--partitions", "2", *config) == (0, f"Created topic {topic}.\n")
    code, text = topics("--create", "--topic", topic, "--partitions", "2")
    assert code == 1 and f"Topic '{topic}' already exists" in text
    assert topics("--create", "--topic", topic, "--if-not-exists") == (0, "")
    assert topic in topics("--list")[1].split()
    code, text = topics("--describe", "--topic", topic)
    assert code == 0 and "PartitionCount: 2" in text and "retention.ms=600000" in text, text
    assert topics("--alter", "--topic", topic, "--partitions", "5")[0] == 0
    bootstrap = ["--bootstrap-server", cluster.bootstrap]
    shown(tools, "kafka-topics", *bootstrap, "--describe", "--topic", topic, when=lambda text: "Count: 5" in text)
    assert topics("--alter", "--topic", topic, "--partitions", "1")[0] == 1
    assert topics("--describe", "--under-replicated-partitions", "--topic", topic) == (0, "")
    assert topics("--delete", "--topic", topic)[0] == 0
    shown(tools, "kafka-topics", *bootstrap, "--list", when=lambda text: topic not in text.split())
    assert topics("--create", "--topic", topic, "--config", "no.such.thing=1")[0] == 1


def test_configurations_of_a_topic_are_set_shown_and_removed(tools: Tools, cluster: Cluster, topic: str):
    created(tools, cluster, topic)
    which = ["--bootstrap-server", cluster.bootstrap, "--entity-type", "topics", "--entity-name", topic]
    assert (
        tools("kafka-configs", *which, "--alter", "--add-config", "retention.ms=123456,cleanup.policy=compact").code
        == 0
    )
    describe = ["kafka-configs", *which, "--describe"]
    compact = "cleanup.policy=compact"
    shown(tools, *describe, when=lambda text: "retention.ms=123456" in text and compact in text)
    assert tools("kafka-configs", *which, "--alter", "--delete-config", "retention.ms").code == 0
    shown(tools, *describe, when=lambda text: "retention.ms" not in text and compact in text)
    assert "retention.ms=604800000" in tools("kafka-configs", *which, "--describe", "--all").text
    for wrong in ("no.such.thing=1", "retention.ms=soon"):
        refused = tools("kafka-configs", *which, "--alter", "--add-config", wrong)
        assert refused.code == 1 and wrong.partition("=")[0] in refused.text, refused.text


def test_configurations_of_a_broker_are_shown_and_never_set_for_nothing(tools: Tools, cluster: Cluster):
    which = ["--bootstrap-server", cluster.bootstrap, "--entity-type", "brokers", "--entity-name", "1"]
    every = tools("kafka-configs", *which, "--describe", "--all")
    assert every.code == 0 and "num.partitions=" in every.text, every.text
    changed = tools("kafka-configs", *which, "--alter", "--add-config", "log.cleaner.backoff.ms=14000")
    if changed.code == 0:
        shown(tools, "kafka-configs", *which, "--describe", when=lambda text: "cleaner.backoff.ms=14000" in text)
        assert tools("kafka-configs", *which, "--alter", "--delete-config", "log.cleaner.backoff.ms").code == 0
    else:
        assert "Exception" in changed.text, changed.text


def test_keys_and_headers_go_through_the_console_tools(tools: Tools, cluster: Cluster, topic: str):
    created(tools, cluster, topic)
    how = "parse.key=true parse.headers=true key.separator=: headers.delimiter=|"
    written(tools, cluster, topic, "a:1,b:2|key:value", "c:|other:thing", properties=how)
    printing = ["--formatter-property", "print.key=true", "--formatter-property", "print.headers=true"]
    shown = read(tools, cluster, topic, 2, *printing)
    assert shown == ["a:1,b:2\tkey\tvalue", "c:\tother\tthing"]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_every_codec_of_the_java_client_is_taken_and_given_back(tools: Tools, cluster: Cluster, topic: str, codec: str):
    created(tools, cluster, topic)
    where = ["--bootstrap-server", cluster.bootstrap, "--topic", topic, "--compression-codec", codec]
    lines = [f"{number} {'x' * 100}" for number in range(50)]
    assert tools("kafka-console-producer", *where, reads="\n".join(lines) + "\n").code == 0
    assert read(tools, cluster, topic, 50) == lines


def test_groups_are_listed_described_reset_and_deleted(tools: Tools, cluster: Cluster, topic: str):
    created(tools, cluster, topic, partitions=2)
    written(tools, cluster, topic, *map(str, range(10)))
    group = f"group-of-{topic}"
    classic = ["--command-property", "group.protocol=classic"]
    assert len(read(tools, cluster, topic, 10, "--group", group, *classic)) == 10

    def groups(*arguments: str) -> str:
        done = tools("kafka-consumer-groups", "--bootstrap-server", cluster.bootstrap, *arguments)
        assert "Exception" not in done.text, done.text
        return done.text

    assert group in groups("--list").split()
    assert any(line.split()[0] == group and "Empty" in line for line in groups("--list", "--state").splitlines())
    assert any(line.split()[0] == group and "Classic" in line for line in groups("--list", "--type").splitlines())
    rows = [line.split() for line in groups("--describe", "--group", group).splitlines() if line.startswith(group)]
    assert sum(int(row[3]) for row in rows) == 10 and all(row[5] == "0" for row in rows), rows
    assert "Empty" in groups("--describe", "--group", group, "--state")
    assert "has no active members" in groups("--describe", "--group", group, "--members")
    reset = ["--reset-offsets", "--group", group, "--all-topics", "--to-offset", "1", "--execute"]
    assert "1" in groups(*reset)
    shown = groups("--describe", "--group", group, "--offsets")
    rows = [line.split() for line in shown.splitlines() if line.startswith(group)]
    assert rows and all(int(row[3]) <= 1 for row in rows), shown
    groups("--delete-offsets", "--group", group, "--topic", topic)
    left = [line for line in groups("--describe", "--group", group).splitlines() if line.startswith(group)]
    assert not left
    assert "was successful" in groups("--delete", "--group", group)
    assert group not in groups("--list").split()


def test_what_a_verifiable_producer_sends_a_verifiable_consumer_reads(tools: Tools, cluster: Cluster, topic: str):
    created(tools, cluster, topic, partitions=3)
    where = ["--bootstrap-server", cluster.bootstrap, "--topic", topic, "--max-messages", "200"]
    done = tools.alone("kafka-verifiable-producer", *where)
    sent = [json.loads(line) for line in done.lines if line.startswith("{")]
    assert sent[-1]["name"] == "tool_data" and (sent[-1]["sent"], sent[-1]["acked"]) == (200, 200)
    group = ["--group-id", f"group-of-{topic}", "--reset-policy", "earliest", "--group-protocol", "classic"]
    said = tools("kafka-verifiable-consumer", *where, *group).lines
    events = [json.loads(line) for line in said if line.startswith("{")]
    assert sum(event["count"] for event in events if event["name"] == "records_consumed") == 200
    assert any(event["name"] == "offsets_committed" and event["success"] for event in events)


def test_the_transactional_message_copier_copies_each_message_once(tools: Tools, cluster: Cluster, topic: str):
    source, target = created(tools, cluster, topic), created(tools, cluster, f"{topic}-copy")
    written(tools, cluster, source, *map(str, range(30)))
    copy = ["--broker-list", cluster.bootstrap, "--input-topic", source, "--input-partition", "0"]
    copy += ["--output-topic", target, "--transactional-id", topic, "--transaction-size", "10"]
    copy += ["--consumer-group", topic, "--max-messages", "30", "--enable-random-aborts"]
    done = tools("transactional-message-copier", *copy)
    assert done.code == 0, done.text
    assert read(tools, cluster, target, 30, "--isolation-level", "read_committed") == list(map(str, range(30)))


def test_transactions_are_listed_described_and_searched(tools: Tools, cluster: Cluster, topic: str):
    source, target = created(tools, cluster, topic), created(tools, cluster, f"{topic}-copy")
    written(tools, cluster, source, "a", "b", "c")
    done = tools("client", "transactions", cluster.bootstrap, source, target)
    assert [*done.lines[-5:]] == ["aborted [nothing]", "committed [3]", "read kept a", "read kept b", "read kept c"]
    seen = read(tools, cluster, target, 6, "--isolation-level", "read_uncommitted")
    assert seen == [f"{how} {value}" for how in ("aborted", "kept") for value in "abc"]

    def transactions(*arguments: str) -> str:
        done = tools("kafka-transactions", "--bootstrap-server", cluster.bootstrap, *arguments)
        assert done.code == 0, done.text
        return done.text

    (row,) = [line.split() for line in transactions("list").splitlines() if line.startswith(source)]
    assert row[3] == "CompleteCommit"
    described = transactions("describe", "--transactional-id", source)
    assert "CompleteCommit" in described and row[2] in described
    producers = transactions("describe-producers", "--topic", target, "--partition", "0")
    assert any(line.split()[0] == row[2] for line in producers.splitlines()), producers
    hanging = transactions("find-hanging", "--topic", target)
    assert row[2] not in hanging


def test_a_second_producer_of_one_transactional_id_fences_the_first(tools: Tools, cluster: Cluster, topic: str):
    created(tools, cluster, topic)
    assert "fenced" in tools("client", "fencing", cluster.bootstrap, topic).text
    assert read(tools, cluster, topic, 1, "--isolation-level", "read_committed") == ["taken over"]


def test_the_classic_protocol_reads_and_the_new_one_is_refused_at_once(tools: Tools, local: Cluster, topic: str):
    created(tools, local, topic)
    written(tools, local, topic, "one")
    assert "read 1" in tools("client", "group", local.bootstrap, topic, "classic").text
    refused = tools("client", "group", local.bootstrap, topic, "consumer")
    assert "refused with UnsupportedVersionException" in refused.text, refused.text
    assert int(refused.lines[-1].split()[1]) <= 5, refused.text


def test_offsets_are_told_and_records_deleted(tools: Tools, cluster: Cluster, topic: str, tmp_path: Path):
    created(tools, cluster, topic)
    written(tools, cluster, topic, *map(str, range(10)))

    def offsets(*time: str) -> list[str]:
        where = ["--bootstrap-server", cluster.bootstrap, "--topic", topic, *time]
        return [line for line in tools("kafka-get-offsets", *where).lines if line.startswith(topic)]

    assert (offsets(), offsets("--time", "earliest")) == ([f"{topic}:0:10"], [f"{topic}:0:0"])
    assert offsets("--time", "max-timestamp")[0].startswith(f"{topic}:0:")
    plan = tmp_path / "delete.json"
    plan.write_text(json.dumps({"version": 1, "partitions": [{"topic": topic, "partition": 0, "offset": 4}]}))
    where = ["--bootstrap-server", cluster.bootstrap, "--offset-json-file", str(plan)]
    assert "low_watermark: 4" in tools("kafka-delete-records", *where).text
    assert offsets("--time", "earliest") == [f"{topic}:0:4"]
    assert read(tools, cluster, topic, 6) == list(map(str, range(4, 10)))


def test_log_dirs_say_how_large_a_topic_is(tools: Tools, cluster: Cluster, topic: str):
    created(tools, cluster, topic, partitions=2)
    written(tools, cluster, topic, "x" * 1000)
    where = ["--bootstrap-server", cluster.bootstrap, "--describe", "--topic-list", topic]
    done = tools("kafka-log-dirs", *where)
    assert done.code == 0, done.text
    found = json.loads(next(line for line in done.lines if line.startswith("{")))
    sizes = {p["partition"]: p["size"] for b in found["brokers"] for d in b["logDirs"] for p in d["partitions"]}
    assert sorted(sizes) == [f"{topic}-0", f"{topic}-1"] and 1000 < max(sizes.values()) < 2000


def test_the_cluster_and_what_it_speaks_are_told(tools: Tools, cluster: Cluster):
    where = ["--bootstrap-server", cluster.bootstrap]
    assert "Cluster ID: " in tools("kafka-cluster", "cluster-id", *where).text
    assert cluster.bootstrap.split(",")[0].split(":")[1] in tools("kafka-cluster", "list-endpoints", *where).text
    spoken = tools("kafka-broker-api-versions", *where)
    assert spoken.code == 0 and "Produce(0): " in spoken.text and "UNKNOWN" not in spoken.text, spoken.text
    assert tools("kafka-groups", *where, "--list").code == 0


def test_what_needs_more_brokers_is_refused_and_does_not_hang(tools: Tools, local: Cluster, topic: str, tmp_path: Path):
    created(tools, local, topic)
    where = ["--bootstrap-server", local.bootstrap]
    election = tools(
        "kafka-leader-election", *where, "--election-type", "preferred", "--topic", topic, "--partition", "0"
    )
    assert "Exception" in election.text or "Valid replica already elected" in election.text, election.text
    plan = tmp_path / "plan.json"
    moved = {"topic": topic, "partition": 0, "replicas": [1, 2], "log_dirs": ["any", "any"]}
    plan.write_text(json.dumps({"version": 1, "partitions": [moved]}))
    moving = tools("kafka-reassign-partitions", *where, "--reassignment-json-file", str(plan), "--execute")
    assert moving.code != 0, moving.text


def test_keys_are_hashed_to_the_same_partitions(tools: Tools, cluster: Cluster, topic: str):
    ours, java = created(tools, cluster, topic, partitions=6), created(tools, cluster, f"{topic}-java", partitions=6)
    keys = [f"order-{number}" for number in range(60)] + ["é", "日本", "x" * 300]
    producer = connect(Settings(bootstrap_servers=cluster.bootstrap)).producer()
    for key in keys:
        producer.produce(ours, b"v", key.encode())
    producer.flush()
    producer.close()
    written(tools, cluster, java, *(f"{key}|v" for key in keys), properties="parse.key=true key.separator=|")

    def places(where: str) -> dict[str, str]:
        printing = ["--formatter-property", "print.key=true", "--formatter-property", "print.partition=true"]
        lines = read(tools, cluster, where, len(keys), *printing)
        return {key: partition for partition, key, _ in (line.split("\t") for line in lines)}

    assert places(ours) == places(java)
    assert set(places(ours)) == set(keys)
