"""What a process is told from outside: `MILLSTREAM_*` environment variables."""

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from millstream.errors import ConfigurationError

HIDDEN = "••••••"
_SECRET_NAME = re.compile(
    r"password|secret|token|credential|private|\.key$|\.pem$|\.jaas|sasl\.username", re.IGNORECASE
)
_SECRET_PARAMETER = re.compile(r"((?:^|&)[^=&]*(?:password|secret|token)[^=&]*=)[^&]*", re.IGNORECASE)


class Shown(NamedTuple):
    """One setting as `millstream config` prints it; secrets are hidden already."""

    variable: str
    value: str
    changed: bool
    meaning: str


MAX_BYTES = 1_048_000
"""What a producer takes as one record (`message.max.bytes`): as much as fits a topic as Kafka makes them."""
OTHER_VARIABLES = ("MILLSTREAM_SEED",)
"""What variables begin with that are read elsewhere."""
CARRIER_BYTES = 48_000
"""What a dead letter or a parked event has at most beside the record that it carries."""


class Settings(BaseSettings):
    """Settings of one process, read once from the environment and never changed.

    Dictionaries are JSON in the environment: `MILLSTREAM_KAFKA='{"socket.timeout.ms": "10000"}'`.
    Build it with `load_settings()`, which turns a bad variable into a `ConfigurationError` that names it.

    >>> Settings(addresses={"payment": "http://127.0.0.1:8007"}).address("payment")
    'http://127.0.0.1:8007'
    """

    model_config = SettingsConfigDict(
        env_prefix="MILLSTREAM_", frozen=True, extra="ignore", hide_input_in_errors=True, env_ignore_empty=True
    )

    bootstrap_servers: str = Field(
        "127.0.0.1:9092", description="Kafka brokers to start from, host:port, separated by commas"
    )
    registry_url: str = Field("http://127.0.0.1:8081", repr=False, description="URL of the schema registry")

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to speak to the brokers"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"] | None = Field(
        None, description="How to prove who we are, with a SASL protocol"
    )
    sasl_username: str | None = Field(None, description="SASL user")
    sasl_password: SecretStr | None = Field(None, description="SASL password")
    ssl_ca_location: Path | None = Field(
        None, description="File of the authorities that brokers' certificates come from"
    )
    ssl_certificate_location: Path | None = Field(None, description="File of this client's certificate")
    ssl_key_location: Path | None = Field(None, description="File of this client's private key")
    kafka: dict[str, str] = Field(
        default_factory=dict, repr=False, description="Further librdkafka properties, as JSON; they win over all else"
    )

    http: str = Field("127.0.0.1:0", description="Address this process listens on; port 0 takes a free one")
    slot: int = Field(0, ge=0, description="Which instance of its service this process is, counted from 0")
    data_dir: Path = Field(Path(".millstream"), description="Folder for local data")
    database_url: str | None = Field(
        None,
        repr=False,
        description="SQLAlchemy URL of the service's database; {service} is its name; default: SQLite under data_dir",
    )
    relay: bool = Field(
        True, description="Whether processes publish the outboxes of their services; false where Debezium does"
    )
    addresses: dict[str, str] = Field(
        default_factory=dict, description='Where other processes answer, as JSON: {"payment": "http://…"}'
    )

    replication_factor: int | None = Field(
        None, ge=1, description="Copies of each new topic; default: 3, or as many as there are brokers"
    )
    commit_interval_ms: int = Field(
        100, ge=1, le=5_000, description="A transaction under load is committed after this long"
    )
    commit_max_events: int = Field(10_000, ge=1, description="… or after this many events")
    session_timeout_ms: int = Field(
        30_000, ge=1_000, description="A silent instance loses its partitions to the others after this long"
    )
    heartbeat_interval_ms: int | None = Field(
        None,
        ge=100,
        description="How often an instance reports to its group; default: a tenth of the session timeout, at most 1 s",
    )
    transaction_timeout_ms: int = Field(
        15_000, ge=2_000, description="The broker aborts a transaction that stays open for longer"
    )
    log: Literal["auto", "json", "text"] = Field("auto", description="Log format; auto: text on a terminal, else JSON")

    @property
    def message_bytes(self) -> int:
        """How large a record may be that this process writes: librdkafka's `message.max.bytes`."""
        return int(self.kafka.get("message.max.bytes", MAX_BYTES))

    @property
    def record_bytes(self) -> int:
        """How large what a handler says or keeps may be: whatever carries it, such as a dead letter, is larger."""
        most = self.message_bytes
        return max(most - CARRIER_BYTES, most // 2)

    @property
    def heartbeat_ms(self) -> int:
        """Milliseconds between heartbeats: as told, or a tenth of the session timeout but at most 1 s.

        Members learn of a rebalance from a heartbeat's answer, so this is also how fast a rebalance is.
        """
        return self.heartbeat_interval_ms or min(1_000, self.session_timeout_ms // 10)

    @property
    def poll_interval_ms(self) -> int:
        """Milliseconds after which a group puts out a member that does not poll: `max.poll.interval.ms`."""
        # librdkafka refuses a session that outlasts what a member may take between two polls.
        return int(self.kafka.get("max.poll.interval.ms", max(300_000, self.session_timeout_ms)))

    @property
    def listen(self) -> tuple[str, int]:
        """Host and port of `http`. Raises `ConfigurationError` if it is not host:port."""
        host, _, port = self.http.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65_535:
            raise ConfigurationError(f"MILLSTREAM_HTTP is {self.http!r}; it must be host:port, such as 127.0.0.1:8000")
        return host.strip("[]"), int(port)

    def address(self, name: str) -> str:
        """The URL of the process called `name`: from `addresses`, or `http://{name}` where names resolve."""
        return self.addresses.get(name, f"http://{name}").rstrip("/")

    def database(self, service: str) -> str:
        """The SQLAlchemy URL of a service's own database.

        >>> Settings(data_dir=Path("/data")).database("inventory")
        'sqlite:////data/services/inventory.db'
        """
        if self.database_url is None:
            return f"sqlite:///{self.data_dir / 'services' / service}.db"
        return self.database_url.replace("{service}", service)

    def shown(self) -> Iterator[Shown]:
        """Every setting for a person's eyes, in order of declaration, secrets hidden."""
        for name, field in type(self).model_fields.items():
            yield Shown(
                f"MILLSTREAM_{name.upper()}",
                _show(name, getattr(self, name)),
                name in self.model_fields_set,
                field.description or "",
            )


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment; `overrides` win. Raises `ConfigurationError` naming each bad variable."""
    try:
        return Settings(**overrides)
    except ValidationError as bad:
        problems = "; ".join(
            f"MILLSTREAM_{'.'.join(str(part) for part in error['loc']).upper()}: {error['msg']}"
            for error in bad.errors()
        )
        raise ConfigurationError(problems) from None
    except SettingsError as bad:
        raise ConfigurationError(f"{bad}; MILLSTREAM_KAFKA and MILLSTREAM_ADDRESSES are JSON objects") from None


def unknown_variables(names: Iterable[str]) -> list[str]:
    """A sentence for each `MILLSTREAM_…` variable that is no setting, with the nearest one that is.

    >>> unknown_variables(["MILLSTREAM_BOOTSTRAP_SERVER", "PATH"])
    ['MILLSTREAM_BOOTSTRAP_SERVER is no setting and changes nothing; did you mean MILLSTREAM_BOOTSTRAP_SERVERS?']
    """
    known = [f"MILLSTREAM_{name.upper()}" for name in Settings.model_fields]
    told: list[str] = []
    for name in sorted(names):
        if name.startswith("MILLSTREAM_") and name.upper() not in known and not name.startswith(OTHER_VARIABLES):
            near = get_close_matches(name.upper(), known, n=1, cutoff=0.8)
            remedy = f"did you mean {near[0]}?" if near else "`millstream config` lists them all"
            told.append(f"{name} is no setting and changes nothing; {remedy}")
    return told


def without_credentials(url: str) -> str:
    """`url` with its password hidden, wherever it stands.

    >>> without_credentials("postgresql://orders:secret@db/orders")
    'postgresql://orders:••••••@db/orders'
    >>> without_credentials("postgresql://db/orders?user=orders&password=secret")
    'postgresql://db/orders?user=orders&password=••••••'
    """
    parts = urlsplit(url)
    query = _SECRET_PARAMETER.sub(rf"\1{HIDDEN}", parts.query)
    host = parts.netloc.rpartition("@")[2]
    netloc = parts.netloc if parts.password is None else f"{parts.username}:{HIDDEN}@{host}"
    return urlunsplit(parts._replace(netloc=netloc, query=query))


def _show(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, dict):
        entries = cast("dict[str, str]", value)
        return ", ".join(f"{key}={_show(key, item)}" for key, item in entries.items())
    text = str(value)
    if _SECRET_NAME.search(name) and name not in Settings.model_fields:
        return HIDDEN
    return without_credentials(text) if "://" in text else text
