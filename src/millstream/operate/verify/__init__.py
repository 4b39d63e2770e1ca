"""The consistency auditor: reads the log, and says which invariants of the system do not hold.

- `Auditor`, `Violation`, `Unjudged`: the core, without I/O.
- `LogReader`: from topics to an auditor.
- `Verification`, `Report`: one system's log, once or on and on.
"""

from millstream.operate.verify.auditor import Auditor
from millstream.operate.verify.findings import Unjudged, Violation
from millstream.operate.verify.reading import LogReader
from millstream.operate.verify.verification import Report, Verification

__all__ = ["Auditor", "LogReader", "Report", "Unjudged", "Verification", "Violation"]
