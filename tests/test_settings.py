from pathlib import Path

import pytest
from pydantic import ValidationError

from millstream.errors import ConfigurationError
from millstream.kafka import properties
from millstream.settings import HIDDEN, Settings, load_settings, unknown_variables


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith("MILLSTREAM_"):
            monkeypatch.delenv(name)


def test_everything_has_a_default_and_a_meaning():
    settings = load_settings()
    assert settings.bootstrap_servers == "127.0.0.1:9092"
    assert settings.listen == ("127.0.0.1", 0)
    assert settings.data_dir == Path(".millstream")
    assert all(shown.meaning for shown in settings.shown())


def test_the_environment_is_read(monkeypatch):
    monkeypatch.setenv("MILLSTREAM_BOOTSTRAP_SERVERS", "kafka-1:9092,kafka-2:9092")
    monkeypatch.setenv("MILLSTREAM_SLOT", "2")
    monkeypatch.setenv("MILLSTREAM_ADDRESSES", '{"payment": "http://127.0.0.1:8007/"}')
    monkeypatch.setenv("MILLSTREAM_KAFKA", '{"linger.ms": "1"}')
    settings = load_settings()
    assert settings.slot == 2
    assert settings.address("payment") == "http://127.0.0.1:8007"
    assert settings.address("shipping") == "http://shipping"
    assert properties.producer(settings, "c")["linger.ms"] == "1"
    assert properties.producer(settings, "c")["bootstrap.servers"] == "kafka-1:9092,kafka-2:9092"
    changed = {shown.variable for shown in settings.shown() if shown.changed}
    assert changed == {
        "MILLSTREAM_BOOTSTRAP_SERVERS",
        "MILLSTREAM_SLOT",
        "MILLSTREAM_ADDRESSES",
        "MILLSTREAM_KAFKA",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [("SLOT", "-1"), ("SLOT", "one"), ("KAFKA", "{"), ("ADDRESSES", "[1]"), ("COMMIT_INTERVAL_MS", "0")],
)
def test_a_bad_variable_is_named(monkeypatch, name, value):
    monkeypatch.setenv(f"MILLSTREAM_{name}", value)
    with pytest.raises(ConfigurationError, match=f"MILLSTREAM_.*{name}"):
        load_settings()


@pytest.mark.parametrize("http", ["8000", "localhost", ":80", "127.0.0.1:99999", "127.0.0.1:http"])
def test_a_bad_address_is_named(http):
    with pytest.raises(ConfigurationError, match="MILLSTREAM_HTTP"):
        _ = load_settings(http=http).listen


def test_an_ipv6_address_can_be_listened_on():
    assert load_settings(http="[::1]:8000").listen == ("::1", 8000)


def test_databases_are_files_of_their_own_or_where_the_url_says():
    assert load_settings().database("inventory") == "sqlite:///.millstream/services/inventory.db"
    shared = load_settings(database_url="postgresql+psycopg://db/{service}")
    assert shared.database("inventory") == "postgresql+psycopg://db/inventory"


def test_secrets_are_never_shown():
    settings = load_settings(
        sasl_password="hunter2",
        database_url="postgresql://orders:hunter2@db/orders",
        registry_url="https://key:hunter2@registry",
        kafka={"ssl.key.password": "hunter2", "sasl.oauthbearer.client.secret": "hunter2", "linger.ms": "1"},
        ssl_key_location="/etc/key.pem",
    )
    shown = {each.variable: each.value for each in settings.shown()}
    assert "hunter2" not in repr(settings) + str(settings) + str(shown)
    assert shown["MILLSTREAM_SASL_PASSWORD"] == HIDDEN
    assert shown["MILLSTREAM_DATABASE_URL"] == f"postgresql://orders:{HIDDEN}@db/orders"
    assert "linger.ms=1" in shown["MILLSTREAM_KAFKA"]
    assert shown["MILLSTREAM_SSL_KEY_LOCATION"] == "/etc/key.pem"
    assert properties.client(settings, "c")["sasl.password"] == "hunter2"


def test_settings_do_not_change():
    with pytest.raises(ValidationError):
        load_settings().slot = 3


def test_heartbeats_follow_the_session():
    assert Settings(session_timeout_ms=6_000).heartbeat_ms == 600
    assert Settings().heartbeat_ms == 1_000
    assert Settings(heartbeat_interval_ms=250).heartbeat_ms == 250


def test_a_variable_that_is_no_setting_is_named_with_the_nearest_that_is():
    told = unknown_variables(
        [
            "MILLSTREAM_BOOTSTRAP_SERVER",
            "MILLSTREAM_REGISTRY",
            "MILLSTREAM_SLOT",
            "MILLSTREAM_SEED",
            "MILLSTREAM_COFFEE",
        ]
    )
    assert told == [
        "MILLSTREAM_BOOTSTRAP_SERVER is no setting and changes nothing; did you mean MILLSTREAM_BOOTSTRAP_SERVERS?",
        "MILLSTREAM_COFFEE is no setting and changes nothing; `millstream config` lists them all",
        "MILLSTREAM_REGISTRY is no setting and changes nothing; did you mean MILLSTREAM_REGISTRY_URL?",
    ]
