"""Protobuf from the same classes: the `.proto` text, and codecs straight between bytes and Structs."""

from millstream.contracts.protobuf.codec import ProtobufCodec, payload_reader, protobuf_decoder, resolving_reader
from millstream.contracts.protobuf.text import protobuf_schema

__all__ = ["ProtobufCodec", "payload_reader", "protobuf_decoder", "protobuf_schema", "resolving_reader"]
