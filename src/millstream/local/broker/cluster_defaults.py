"""What administrators have set for all brokers together, and every topic takes that says nothing else.

A cluster of Apache Kafka that was set up with eligible leader replicas (any since 4.1) keeps `min.insync.replicas`
there from its beginning: it can be changed, but neither removed nor set for one broker.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from kio.schema.errors import ErrorCode

from millstream.local.broker.configs import TOPIC_CONFIGS, check_config
from millstream.local.broker.errors import Refused
from millstream.local.broker.log.files import Files

ALWAYS_SET = frozenset({"min.insync.replicas"})


class ClusterDefaults:
    """Values by name, kept in the file `path`."""

    def __init__(self, path: Path, files: Files) -> None:
        self._path = path
        self._files = files
        self.values = {name: TOPIC_CONFIGS[name].default for name in ALWAYS_SET}
        if path.exists():
            self.values |= json.loads(path.read_bytes())

    def change(self, changes: Mapping[str, str], *, validate_only: bool = False) -> None:
        """Set these values. Raises Refused, and then nothing has changed."""
        values = dict(self.values)
        for name, value in changes.items():
            try:
                values[name] = check_config(name, value)
            except Refused as refused:  # a broker's configuration is refused by another code than a topic's
                raise Refused(ErrorCode.invalid_request, refused.message) from refused
        if validate_only:
            return
        try:
            self._files.replace(self._path, json.dumps(values).encode(), durable=True)
        except OSError as error:
            reason = f"cannot write {self._path}: {error.strerror}"
            raise Refused(ErrorCode.kafka_storage_error, reason) from error
        self.values = values
