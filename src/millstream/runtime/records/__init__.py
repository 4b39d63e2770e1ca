"""The records that workers read and write: their routes, headers and wire formats."""
