"""Inserts that may meet a row that is there already."""

from importlib import import_module
from typing import Any

from sqlalchemy import Table


def insert_into(table: Table, dialect: str) -> Any:
    """An insert with `on_conflict_do_nothing` and `on_conflict_do_update`.

    - `dialect`: `"sqlite"` or `"postgresql"`, the `dialect.name` of an engine or connection. Only this one is loaded,
      because each takes 2 MB.

    >>> from sqlalchemy import Column, Integer, MetaData
    >>> seats = Table("seats", MetaData(), Column("number", Integer, primary_key=True))
    >>> print(insert_into(seats, "sqlite").on_conflict_do_nothing())
    INSERT INTO seats (number) VALUES (?) ON CONFLICT DO NOTHING
    """
    return import_module(f"sqlalchemy.dialects.{dialect}").insert(table)
