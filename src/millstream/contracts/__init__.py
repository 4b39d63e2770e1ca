"""Between events and bytes: schemas, codecs, the registry, ids and headers.

- `avro_schema`, `schema_text`, `protobuf_schema`, `json_schema`: what a class looks like to the rest of the world.
- `Contracts`, `Decoder`: what the runtime and the tools encode and decode with.
- `Codec`, `codec_for`: one class under one schema id, generated for speed.
- `Registry`, `subject_for`: the schema registry.
- `header_writer`, `headers_for`, `identity`, `envelope_from`: metadata in Kafka headers.
- `with_key`: a deletion with the key of its record.
- `edge_id`, `derived_id`, `position_id`: ids of events.
"""

from millstream.contracts.catalogue import Contracts, Decoder, Values
from millstream.contracts.codec import Codec, codec_for
from millstream.contracts.headers import Headers, HeaderWriter, envelope_from, header_writer, headers_for, identity
from millstream.contracts.ids import derived_id, edge_id, position_id
from millstream.contracts.json_schema import json_schema
from millstream.contracts.protobuf import protobuf_schema
from millstream.contracts.registry import Registry, subject_for
from millstream.contracts.schema import avro_schema, schema_text
from millstream.contracts.tombstones import with_key

__all__ = [
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
