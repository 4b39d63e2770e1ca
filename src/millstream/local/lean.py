"""To be imported first in a broker's process: keeps out what libraries import for uses that a broker does not have.

A test waits for a broker to start; this is a fifth of that time and 8 MB.
"""

import sys
from types import ModuleType


class _NoMetadata(ModuleType):
    """Stands in for importlib.metadata while crc32c asks for its own version, which nobody reads."""

    @staticmethod
    def version(name: str) -> str:
        return ""


# kio offers test strategies to hypothesis wherever it finds it.
sys.modules.setdefault("hypothesis", None)  # type: ignore[arg-type]

# asyncio does without TLS where there is none; a broker speaks none. What comes later can have it.
if "ssl" not in sys.modules:
    sys.modules["ssl"] = None  # type: ignore[assignment]
    import asyncio  # noqa: F401

    del sys.modules["ssl"]

if "importlib.metadata" not in sys.modules:
    sys.modules["importlib.metadata"] = _NoMetadata("importlib.metadata")
    import crc32c  # noqa: F401

    del sys.modules["importlib.metadata"]
