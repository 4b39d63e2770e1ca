"""What all tests have in common."""

import faulthandler
import signal
import sys
from typing import Any

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key  # the only way to the standard error that is not captured
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

# How long an example takes says how busy the machine is: speed is the benchmarks' business.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


class Progress:
    """Tells of failures at once, and of tests under way at an interruption: a run may not live to its summary."""

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
        # A shell starts what runs in the background with this signal ignored; then no summary would come.
        signal.signal(signal.SIGINT, signal.default_int_handler)


NATIVE_GRACE = 60.0
"""Seconds after its time-out for a test to end its process itself, before that is done without the interpreter."""


def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> None:
    """Bounds tests that native code holds up, too: pytest-timeout needs the interpreter, this timer does not."""
    where = item.config.stash[fault_handler_stderr_fd_key]
    faulthandler.dump_traceback_later(settings.timeout + NATIVE_GRACE, exit=True, file=where)


def pytest_timeout_cancel_timer(item: pytest.Item) -> None:
    faulthandler.cancel_dump_traceback_later()


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

    def remove_node(self, node: WorkerController) -> str | None:
        """Returns the test in which a process died, which is not run again: pytest-xdist would, without end."""
        for unit in self.assigned_work[node].values():
            for nodeid, completed in unit.items():
                if not completed:
                    unit[nodeid] = True
                    super().remove_node(node)
                    return nodeid
        return super().remove_node(node)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesAndOneCluster:
    return FilesAndOneCluster(config, log)
