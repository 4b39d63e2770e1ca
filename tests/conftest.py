"""What all tests have in common."""

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

# How long an example takes says how busy the machine is: speed is the benchmarks' business.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


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
