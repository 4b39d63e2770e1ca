"""What the room gives to others, and what it costs them to import it."""

import subprocess
import sys

from millstream import contracts


def test_public_names() -> None:
    assert contracts.__all__ == [
        "Codec",
        "Contracts",
        "Decoder",
        "HeaderWriter",
        "Headers",
        "Registry",
        "Values",
        "avro_schema",
        "codec_for",
        "derived_id",
        "edge_id",
        "envelope_from",
        "header_writer",
        "headers_for",
        "identity",
        "json_schema",
        "position_id",
        "protobuf_schema",
        "schema_text",
        "subject_for",
        "with_key",
    ]


def test_heavy_libraries_are_left_until_they_are_needed() -> None:
    heavy = {"fastavro", "google.protobuf", "http.client", "httpx", "jsonschema", "ssl", "uuid_utils"}
    program = f"import sys, millstream.contracts; print(*({heavy} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert found.stdout.split() == []
