"""Saying the same thing less often: an outage is one piece of news, not ten a second."""

import logging
import time


class LogThrottle:
    """Lets each key through once in `seconds`.

    >>> seldom = Seldom(10)
    >>> seldom("broker down"), seldom("broker down"), seldom("another")
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
