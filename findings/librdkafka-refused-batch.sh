#!/usr/bin/env bash
# Guess:    a batch that the broker refuses (a record above the topic's `max.message.bytes`) fails its transaction; the
#           application aborts it, and the producer's next transaction is like any other.
# Versions: confluent-kafka 2.16.1, Apache Kafka 4.3.1 (one node, KRaft), Java 17 or later.
# Behaviour: the transaction fails with MSG_SIZE_TOO_LARGE and is aborted, as it should be. The next transaction of that
#           producer, with nothing in it but a small record, fails as well: the broker answers
#           OUT_OF_ORDER_SEQUENCE_NUMBER, since the refused batch has used up sequence numbers that it never took. It
#           has to be aborted, too; the third one commits. A new producer with the same transactional.id commits at once.
# Output:   "refused: fails, next: fails, third: commits, new producer: commits"
# Matters:  whoever sets the poisonous event aside and goes on loses the next, innocent batch, and a consume-transform-
#           produce loop that counts failures blames the wrong event. After a refused batch, take a new producer.
set -euo pipefail
folder=$(mktemp -d)
broker=
finish() {
    [[ -z $broker ]] || { kill -9 "$broker"; wait "$broker" || true; } 2>/dev/null
    rm -rf "$folder"
}
trap finish EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check confluent-kafka==2.16.1
cat >pom.xml <<'POM'
<project><modelVersion>4.0.0</modelVersion><groupId>a</groupId><artifactId>a</artifactId><version>1</version>
  <packaging>pom</packaging><dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>4.3.1</version>
  </dependency></dependencies></project>
POM
mvn -q -B dependency:copy-dependencies -DoutputDirectory="$folder/jars" >/dev/null
read -r port controller < <(python3 -c '
import socket
sockets = [socket.socket() for _ in range(2)]
[one.bind(("127.0.0.1", 0)) for one in sockets]
print(*(one.getsockname()[1] for one in sockets))')
cat >server.properties <<SETTINGS
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$folder/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
SETTINGS
kafka=(java -Xmx384m -cp "$folder/jars/*")
"${kafka[@]}" kafka.tools.StorageTool format --cluster-id=4L6g3nShT-eMCtK--X86sw -c server.properties --standalone >format.log 2>&1
"${kafka[@]}" kafka.Kafka server.properties >broker.log 2>&1 &
broker=$!
seen=$(timeout 180 venv/bin/python - "127.0.0.1:$port" 2>errors.log <<'PYTHON'
import sys

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

address = {"bootstrap.servers": sys.argv[1]}
admin = AdminClient(address)
admin.list_topics(timeout=120)
admin.create_topics([NewTopic("small", 1, 1, config={"max.message.bytes": "2000"})])["small"].result(60)


def producer():
    made = Producer({**address, "transactional.id": "one"})
    made.init_transactions(60)
    return made


def outcome(of, size):
    of.begin_transaction()
    of.produce("small", b"x" * size)
    try:
        of.commit_transaction(60)
    except KafkaException:
        of.abort_transaction(60)
        return "fails"
    return "commits"


first = producer()
told = [outcome(first, 5_000), outcome(first, 10), outcome(first, 10)]
second = producer()
outcome(second, 5_000)
told.append(outcome(producer(), 10))
print("refused: {}, next: {}, third: {}, new producer: {}".format(*told))
PYTHON
) || { cat errors.log broker.log | tail -20; exit 1; }
echo "$seen"
[[ $seen == "refused: fails, next: fails, third: commits, new producer: commits" ]]
