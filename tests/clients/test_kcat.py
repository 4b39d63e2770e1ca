"""kcat as Debian packages it: librdkafka 2.0.2, older than the one in confluent-kafka."""

import json
import subprocess

import pytest

from millstream.testing.plugin import Cluster

pytestmark = pytest.mark.real


def kcat(cluster: Cluster, *arguments: str, reads: str = "") -> str:
    """What it printed; the test fails if it does."""
    command = ["kcat", "-b", cluster.bootstrap, *arguments]
    done = subprocess.run(command, input=reads, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def made(cluster: Cluster, topic: str) -> str:
    """The topic, created: kcat cannot."""
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    admin.create_topics([NewTopic(topic, 2)])[topic].result(20)
    return topic


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_what_it_produces_it_consumes(cluster: Cluster, made: str, codec: str):
    lines = [f"{number}:{'v' * 50}{number}" for number in range(100)]
    sending = ["-P", "-t", made, "-p", "0", "-K:", "-z", codec, "-H", "by=kcat"]
    kcat(cluster, *sending, reads="\n".join(lines) + "\n")
    shown = kcat(cluster, "-C", "-t", made, "-p", "0", "-o", "beginning", "-e", "-q", "-f", "%h %k:%s\n")
    assert shown.splitlines() == [f"by=kcat {line}" for line in lines]


def test_metadata_and_offsets_are_told(cluster: Cluster, made: str):
    kcat(cluster, "-P", "-t", made, "-p", "1", reads="a\nb\n")
    metadata = json.loads(kcat(cluster, "-L", "-J", "-t", made))
    assert metadata["topics"][0]["topic"] == made
    assert [p["partition"] for p in metadata["topics"][0]["partitions"]] == [0, 1]
    assert "offset 2" in kcat(cluster, "-Q", "-t", f"{made}:1:-1")


def test_a_group_goes_on_where_it_stopped(cluster: Cluster, made: str):
    group = ["-G", made, "-e", "-q", "-X", "auto.offset.reset=earliest"]
    kcat(cluster, "-P", "-t", made, reads="a\nb\n")
    assert sorted(kcat(cluster, *group, made).split()) == ["a", "b"]
    kcat(cluster, "-P", "-t", made, reads="c\n")
    assert kcat(cluster, *group, made).split() == ["c"]


def test_a_transaction_is_seen_when_it_is_committed(cluster: Cluster, made: str):
    kcat(cluster, "-P", "-t", made, "-p", "0", "-X", f"transactional.id={made}", reads="in one\n")
    reading = ["-C", "-t", made, "-p", "0", "-e", "-q", "-X", "isolation.level=read_committed"]
    assert kcat(cluster, *reading) == "in one\n"
