"""AsyncAPI 3 of a system: channels, operations, and messages with the schemas that travel.

https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

import json
from typing import Any

from millstream.declare import Contract, Kind, Service, full_name
from millstream.operate.documents.examples import example_of
from millstream.operate.documents.model import MessageTold, SystemTold, TopicTold
from millstream.operate.documents.whole import whole_example, whole_schema
from millstream.operate.schemas.declared import TYPES, schema_in

_SCHEMA_FORMATS = {
    "avro": "application/vnd.apache.avro;version=1.9.0",
    "protobuf": "application/vnd.google.protobuf;version=3",
    "json_schema": "application/schema+json;version=draft-2020-12",
    "json": "application/schema+json;version=draft-2020-12",
    "cloudevents": "application/schema+json;version=draft-2020-12",
}
_CONTENT_TYPES = {
    "avro": "application/vnd.apache.avro",
    "protobuf": "application/x-protobuf",
    "json_schema": "application/json",
    "json": "application/json",
    "cloudevents": "application/cloudevents+json",
}
_LOOKUP = {
    "topic_record": "TopicRecordIdStrategy",
    "topic": "TopicIdStrategy",
    "record": "RecordIdStrategy",
}
_HEADERS = {
    "ce_id": "The event's id.",
    "ce_type": "The class, in full.",
    "ce_source": "The service that made it.",
    "ce_time": "When it was made, as ISO 8601 text.",
    "correlationid": "The id of the first event of the story.",
    "causationid": "The id of the event that led to this one.",
    "traceparent": "The W3C trace that it belongs to.",
}


def asyncapi(told: SystemTold, version: str) -> dict[str, Any]:
    """The document, in the order of names."""
    operations: dict[str, Any] = {}
    for topic in told.topics:
        for service in told.services:
            for action, by_service in (("send", topic.senders), ("receive", topic.receivers)):
                if classes := by_service.get(service.name):
                    name = f"{service.name}.{action}.{topic.topic.name}"
                    operations[name] = _operation(action, service, topic, classes)
    messages = [(topic, message) for topic in told.topics for message in topic.messages]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": told.name,
            "version": version,
            "description": f"What travels between the services of {told.name}. Derived from the code.",
        },
        "defaultContentType": "application/octet-stream",
        "channels": {topic.topic.name: _channel(topic) for topic in told.topics},
        "operations": dict(sorted(operations.items())),
        "components": {
            "messages": {
                full_name(message.contract): _message(topic, message)
                for topic, message in sorted(messages, key=lambda pair: full_name(pair[1].contract))
            },
            "messageTraits": {"cloudevents": {"headers": _headers()}},
        },
    }


def _channel(told: TopicTold) -> dict[str, Any]:
    topic = told.topic
    config = topic.config()
    settings: dict[str, Any] = {"cleanup.policy": config["cleanup.policy"].split(",")}
    if "retention.ms" in config:
        settings["retention.ms"] = int(config["retention.ms"])
    names = [message.contract for message in told.messages]
    return {
        "address": topic.name,
        "description": f"Keyed by {told.key}; kept {told.retention}.",
        "messages": {_id(of): {"$ref": f"#/components/messages/{full_name(of)}"} for of in names},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": settings,
                "bindingVersion": "0.5.0",
            }
        },
    }


def _operation(action: str, service: Service, told: TopicTold, classes: list[type[Contract]]) -> dict[str, Any]:
    channel = f"#/channels/{told.topic.name}"
    operation: dict[str, Any] = {
        "action": action,
        "channel": {"$ref": channel},
        "summary": f"{service.name} {action}s {', '.join(of.__name__ for of in classes)}",
        "tags": [{"name": service.name}],
        "messages": [{"$ref": f"{channel}/messages/{_id(of)}"} for of in classes],
    }
    if action == "receive":
        groups = sorted({service.group(kind) for kind in Kind if told.topic in service.consumed(kind)})
        operation["bindings"] = {
            "kafka": {"groupId": {"type": "string", "enum": groups}, "bindingVersion": "0.5.0"},
        }
    return operation


def _message(told: TopicTold, message: MessageTold) -> dict[str, Any]:
    topic, contract = told.topic, message.contract
    kafka: dict[str, Any] = {
        "key": {"type": "string", "description": f"{_deletes(contract).__key_field__} of the {message.kind}"}
    }
    if topic.format in TYPES and contract.__deletes__ is None:
        kafka |= {
            "schemaIdLocation": "payload",
            "schemaIdPayloadEncoding": "confluent",
            "schemaLookupStrategy": _LOOKUP[topic.subjects],
        }
    made = {
        "name": full_name(contract),
        "title": contract.__name__,
        "summary": message.told.doc,
        "contentType": _CONTENT_TYPES[topic.format],
        "tags": [{"name": message.kind}],
        "traits": [{"$ref": "#/components/messageTraits/cloudevents"}],
        "payload": {
            "schemaFormat": _SCHEMA_FORMATS["json" if contract.__deletes__ is not None else topic.format],
            "schema": _schema(topic.format, contract),
        },
        "bindings": {"kafka": kafka | {"bindingVersion": "0.5.0"}},
        "examples": [{"name": contract.__name__, "payload": _example(topic.format, contract)}],
    }
    return {key: value for key, value in made.items() if value != ""}


def _schema(format: str, contract: type[Contract]) -> Any:
    """As text where it is no JSON."""
    if contract.__deletes__ is not None:
        return {"type": "null"}
    if format == "cloudevents":
        return whole_schema(contract)
    schema = schema_in(format if format in TYPES else "json_schema", contract)
    return schema if format == "protobuf" else json.loads(schema)


def _example(format: str, contract: type[Contract]) -> Any:
    if contract.__deletes__ is not None:
        return None
    return whole_example(contract) if format == "cloudevents" else example_of(contract)


def _id(contract: type[Contract]) -> str:
    """Return the name of a message within its channel, in letters that AsyncAPI takes."""
    return contract.__name__ if contract.__deletes__ is None else f"{contract.__deletes__.__name__}.Deleted"


def _deletes(contract: type[Contract]) -> type[Contract]:
    return contract if contract.__deletes__ is None else contract.__deletes__


def _headers() -> dict[str, Any]:
    properties = {name: {"type": "string", "description": said} for name, said in _HEADERS.items()}
    return {"type": "object", "properties": properties}
