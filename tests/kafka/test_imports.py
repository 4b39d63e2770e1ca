"""A command imports no library of a part that it does not use before its first request."""

import subprocess
import sys

ASKS = """
import sys
from millstream.kafka import connect
from millstream.settings import Settings

connect(Settings()).admin().close()
import millstream.kafka.read  # as `millstream lag` does
print(*sorted({"structlog", "prometheus_client", "opentelemetry", "http.server"} & sys.modules.keys()))
from millstream.telemetry import get_logger
print("structlog" in sys.modules)
"""


def test_a_client_that_only_asks_imports_neither_logs_nor_metrics():
    asked = subprocess.run([sys.executable, "-c", ASKS], capture_output=True, text=True, check=True)
    assert asked.stdout.splitlines() == ["", "True"]
