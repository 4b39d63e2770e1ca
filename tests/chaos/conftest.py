from collections.abc import Iterator

import psycopg
import pytest
from tests.chaos.faults import SERVICES

from millstream.testing.postgresql import PostgreSQL


@pytest.fixture
def database() -> Iterator[PostgreSQL]:
    """A server with a database for each service."""
    with PostgreSQL() as server:
        with psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True) as connection:
            for name in SERVICES:
                connection.execute(f'CREATE DATABASE "{name}"')
        yield server
