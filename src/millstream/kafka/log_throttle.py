"""A throttle of repeated log lines: an outage is one piece of news, not ten a second."""

import logging
import time


class LogThrottle:
    """Lets each key through once in `seconds`.

    >>> throttle = LogThrottle(10)
    >>> throttle("broker down"), throttle("broker down"), throttle("another")
    (True, False, True)
    """

    def __init__(self, seconds: float = 10.0) -> None:
        self._seconds = seconds
        self._last: dict[str, float] = {}

    def __call__(self, key: str) -> bool:
        now = time.monotonic()
        if now - self._last.get(key, -self._seconds) < self._seconds:
            return False
        self._last[key] = now
        return True


class LogThrottleFilter(logging.Filter):
    """The same for a standard-library logger: by the first word, which in librdkafka's lines is the kind of news."""

    def __init__(self) -> None:
        super().__init__()
        self._log_throttle = LogThrottle()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether this line is logged."""
        return self._log_throttle(f"{record.levelname} {record.getMessage().partition(' ')[0]}")
