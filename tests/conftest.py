"""What all tests have in common."""

import signal
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

# How long an example takes says how busy the machine is: speed is the benchmarks' business.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


class Progress:
    """What a run has come to, for one that does not live to its summary: failures at once, then what it was at."""

    def __init__(self) -> None:
        self._running: dict[str, None] = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._running[nodeid] = None

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._running.pop(nodeid, None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            sys.stderr.write(f"\n{report.nodeid} failed ({report.when}):\n{report.longreprtext}\n")

    def pytest_keyboard_interrupt(self) -> None:
        sys.stderr.write("".join(f"\nstill running: {nodeid}" for nodeid in self._running) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    if getattr(config.option, "numprocesses", None):
        config.pluginmanager.register(Progress())
        # Whoever starts the run in the background may have it ignored: then nothing would end it with a summary.
        signal.signal(signal.SIGINT, signal.default_int_handler)


CLUSTERS = {"apache_kafka", "apache_registry"}
"""Fixtures that start Apache Kafka, for as long as their process of the test run lives."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    unnamed = [
        item.nodeid
        for item in items
        if CLUSTERS.intersection(getattr(item, "fixturenames", ())) and "apache" not in item.nodeid
    ]
    if unnamed:
        raise pytest.UsageError(f"say `apache` in the name of a test that starts Apache Kafka: {unnamed}")


class FilesAndOneCluster(LoadScopeScheduling):
    """Hand whole files to the processes of `-n`, and all tests that name Apache Kafka to one of them: each process
    starts a cluster for itself. `--dist loadgroup` of pytest-xdist 3.8.0 groups nothing under pytest 9.2."""

    def _split_scope(self, nodeid: str) -> str:
        return "apache" if "apache" in nodeid else nodeid.split("::", 1)[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesAndOneCluster:
    return FilesAndOneCluster(config, log)
