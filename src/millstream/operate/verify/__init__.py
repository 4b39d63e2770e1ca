"""The consistency auditor: reads the log, and says which invariants of the system do not hold.

- `Auditor`, `Violation`: the core, without I/O.
- `LogReader`: from topics to an auditor.
"""

from millstream.operate.verify.auditor import Auditor, Violation
from millstream.operate.verify.reading import LogReader

__all__ = ["Auditor", "LogReader", "Violation"]
