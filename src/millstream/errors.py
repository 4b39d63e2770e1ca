"""Every error that Millstream raises, in one tree.

    MillstreamError
    ├── DeclarationError        a declaration that cannot work; raised when it is made
    ├── ConfigurationError      a setting that is missing or wrong
    ├── ContractError
    │   ├── EncodeError         an event that does not fit its schema
    │   │   └── RecordsRefused  brokers refuse a batch for a record in it
    │   ├── DecodeError         bytes that are no event of their topic
    │   └── IncompatibleSchema  the registry refused a schema
    ├── RegistryUnavailable     the registry does not answer            (retriable)
    ├── Rejected                a handler dead-letters its event, with a reason
    ├── Unsettled               an outside call has no outcome yet      (retriable)
    ├── KafkaFault
    │   ├── Unavailable         no broker answers                       (retriable)
    │   ├── TransactionAborted  nothing of the transaction was written  (retriable)
    │   ├── CommitUnknown       the commit's outcome is not known
    │   ├── Fenced              a newer holder of this slot took over
    │   ├── TopicMissing        a topic that does not exist
    │   └── TopicReplaced       a topic was deleted and made again
    ├── SlotTaken               another process holds this slot
    └── AggregateMissing        no event of an aggregate has this key

`retriable` says whether the same call can succeed later without anybody changing anything. `code` names the class in
snake_case for alerts and programs: names of classes and words of messages may change, codes do not.
"""

from collections.abc import Iterable
from typing import ClassVar


class MillstreamError(Exception):
    """The root: `except MillstreamError` catches whatever this package raises on purpose."""

    code: ClassVar[str] = "millstream_error"
    retriable: ClassVar[bool] = False


class DeclarationError(MillstreamError):
    """A declaration that cannot work. The message names the place and the remedy."""

    code: ClassVar[str] = "declaration_error"


class ConfigurationError(MillstreamError):
    """A setting that is missing or wrong."""

    code: ClassVar[str] = "configuration_error"


class ContractError(MillstreamError):
    """An event or record that does not fit its schema."""

    code: ClassVar[str] = "contract_error"


class EncodeError(ContractError):
    """An event that does not fit its schema; the message names the field."""

    code: ClassVar[str] = "encode_error"


class RecordsRefused(EncodeError):
    """Brokers refused a batch of `topic` because of a record in it; nothing of its transaction was written.

    The record is above the topic's `max.message.bytes`, lacks the key that a compacted topic demands, or has a
    timestamp that is not allowed. Which of the batch it was is not known.
    """

    code: ClassVar[str] = "records_refused"

    def __init__(self, detail: str, topic: str = "") -> None:
        super().__init__(detail)
        self.topic = topic


class DecodeError(ContractError):
    """Bytes that are no event of their topic.

    `reason` is a short, stable code such as `"not_framed"`, `"unknown_schema"`, `"truncated"`; the
    message adds the detail.
    """

    code: ClassVar[str] = "decode_error"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class IncompatibleSchema(ContractError):
    """The registry refused a schema because readers of the topic could not live with it."""

    code: ClassVar[str] = "incompatible_schema"


class RegistryUnavailable(MillstreamError):
    """The schema registry does not answer."""

    code: ClassVar[str] = "registry_unavailable"
    retriable = True


class Rejected(MillstreamError):
    """Raised by a handler to dead-letter its event at once: retrying could not help.

    The event becomes a dead letter with `reason`, a short stable code to group by, and `detail`.

    >>> raise Rejected("temperature_out_of_range", "93.1 is outside -40..85 °C")
    Traceback (most recent call last):
    millstream.errors.Rejected: temperature_out_of_range: 93.1 is outside -40..85 °C
    """

    code: ClassVar[str] = "rejected"

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Unsettled(MillstreamError):
    """Raised by a handler whose outside call has no outcome yet: ask again later, by the same key."""

    code: ClassVar[str] = "unsettled"
    retriable = True


class KafkaFault(MillstreamError):
    """A fault between this process and the brokers."""

    code: ClassVar[str] = "kafka_fault"


class Unavailable(KafkaFault):
    """No broker answers, or not in time."""

    code: ClassVar[str] = "brokers_unavailable"
    retriable = True


class TransactionAborted(KafkaFault):
    """Nothing of the transaction was written; it can be done again."""

    code: ClassVar[str] = "transaction_aborted"
    retriable = True


class CommitUnknown(KafkaFault):
    """The commit was sent and its answer never came: the transaction is either whole or absent."""

    code: ClassVar[str] = "commit_unknown"


class Fenced(KafkaFault):
    """A newer holder of this slot took over; this process must stop."""

    code: ClassVar[str] = "fenced"


class TopicMissing(KafkaFault):
    """A topic that does not exist."""

    code: ClassVar[str] = "topic_missing"


class TopicReplaced(KafkaFault):
    """A topic was deleted and made again while a process worked with it: its positions are of the old one."""

    code: ClassVar[str] = "topic_replaced"


class SlotTaken(MillstreamError):
    """Another process holds this slot; the message names it."""

    code: ClassVar[str] = "slot_taken"


class AggregateMissing(MillstreamError):
    """No event of an aggregate has this key: nothing ever happened to it."""

    code: ClassVar[str] = "aggregate_missing"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question that names the nearest of the known names, to stand behind `name`; empty where none is near.

    >>> did_you_mean("invntory", ["order", "inventory"]), did_you_mean("x", ["order"])
    (' (did you mean inventory?)', '')
    """
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
