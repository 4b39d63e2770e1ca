"""Kafka's own command-line tools, run in one Java for the whole session."""

import base64
import queue
import subprocess
import threading
from pathlib import Path
from typing import NamedTuple

from millstream.testing.apache import jars
from millstream.testing.child import with_tests

ANSWER_WITHIN_SECONDS = 60.0
_SOURCES = Path(__file__).parent / "java"
_CLASSES = {
    "kafka-broker-api-versions": "org.apache.kafka.tools.BrokerApiVersionsCommand",
    "kafka-cluster": "org.apache.kafka.tools.ClusterTool",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "kafka-console-producer": "org.apache.kafka.tools.ConsoleProducer",
    "kafka-consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "kafka-delete-records": "org.apache.kafka.tools.DeleteRecordsCommand",
    "kafka-get-offsets": "org.apache.kafka.tools.GetOffsetShell",
    "kafka-groups": "org.apache.kafka.tools.GroupsCommand",
    "kafka-leader-election": "org.apache.kafka.tools.LeaderElectionCommand",
    "kafka-log-dirs": "org.apache.kafka.tools.LogDirsCommand",
    "kafka-reassign-partitions": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
    "kafka-topics": "org.apache.kafka.tools.TopicCommand",
    "kafka-transactions": "org.apache.kafka.tools.TransactionsCommand",
    "kafka-verifiable-consumer": "org.apache.kafka.tools.VerifiableConsumer",
    "kafka-verifiable-producer": "org.apache.kafka.tools.VerifiableProducer",
    "transactional-message-copier": "org.apache.kafka.tools.TransactionalMessageCopier",
    "client": "Client",
}


class Said(NamedTuple):
    code: int
    output: str
    errors: str

    @property
    def text(self) -> str:
        """All that it said."""
        return self.output + self.errors

    @property
    def lines(self) -> list[str]:
        """The lines of its output."""
        return [line.strip() for line in self.output.splitlines() if line.strip()]


class Tools:
    """`tools("kafka-topics", "--list", …)` is what the tool said and its exit code.

    Raises AssertionError with what Java said if it takes longer than a minute: then it is ended, and the next call
    starts another.
    """

    def __init__(self, folder: Path) -> None:
        self._errors = folder / "java.log"
        class_path = f"{folder}:{jars()}/*"
        options = ["-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
        self._command = ["java", *options, "-cp", class_path]
        self._java: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()
        sources = [str(path) for path in sorted(_SOURCES.glob("*.java"))]
        subprocess.run(["javac", "-cp", class_path, "-d", str(folder), *sources], check=True, timeout=120)

    def __call__(self, tool: str, *arguments: str, reads: str = "") -> Said:
        java = self._running()
        assert java.stdin is not None
        parts = (reads, _CLASSES[tool], *arguments)
        java.stdin.write(" ".join(base64.b64encode(part.encode()).decode() for part in parts) + "\n")
        java.stdin.flush()
        try:
            answer = self._answers.get(timeout=ANSWER_WITHIN_SECONDS)
        except queue.Empty:
            self.close()
            raise AssertionError(f"{tool} {arguments}: no end within {ANSWER_WITHIN_SECONDS:g} s") from None
        assert answer, f"Java ended: {self._errors.read_text()[-2000:]}"
        output, errors, code = answer.split(" ")
        return Said(int(code), base64.b64decode(output).decode(), base64.b64decode(errors).decode())

    def alone(self, tool: str, *arguments: str) -> Said:
        """The same in a Java of its own: for a tool that works on until its process ends."""
        command = [*self._command, _CLASSES[tool], *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_WITHIN_SECONDS, check=False)
        return Said(done.returncode, done.stdout, done.stderr)

    def close(self) -> None:
        if self._java is not None:
            self._java.kill()
            self._java.wait(10)
            for stream in (self._java.stdin, self._java.stdout):
                if stream is not None:
                    stream.close()
            self._java = None

    def _running(self) -> subprocess.Popen[str]:
        if self._java is None:
            with self._errors.open("a") as errors:
                self._java = subprocess.Popen(
                    [*self._command, "Tools"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    preexec_fn=with_tests(),
                )
            self._answers = queue.Queue()
            threading.Thread(target=_pass_on, args=(self._java, self._answers), daemon=True).start()
        return self._java


def _pass_on(java: subprocess.Popen[str], answers: queue.Queue[str]) -> None:
    """A line of Java's for each call; an empty one when it is gone."""
    assert java.stdout is not None
    try:
        for line in java.stdout:
            answers.put(line.removesuffix("\n"))
    except ValueError:  # closed by `close`
        return
    answers.put("")
