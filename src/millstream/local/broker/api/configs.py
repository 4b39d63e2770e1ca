"""DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, ListConfigResources: a topic's can be changed, the broker's
read."""

from collections import Counter
from typing import Any

from kio.schema.errors import ErrorCode

from millstream.local.broker.api.context import Context
from millstream.local.broker.broker_configs import broker_configs
from millstream.local.broker.cluster_defaults import ALWAYS_SET, ClusterDefaults
from millstream.local.broker.configs import TOPIC_CONFIGS, ConfigType, check_configs
from millstream.local.broker.core import NODE_ID, Broker
from millstream.local.broker.errors import Refused
from millstream.local.broker.topics import Topic, check_name
from millstream.local.broker.wire.control import Response

TOPIC = 2
BROKER = 4
KNOWN_RESOURCES = {TOPIC: "topic", BROKER: "broker", 8: "broker logger", 16: "client metrics", 32: "group"}
FROM_TOPIC = 1
FROM_CLUSTER_DEFAULT = 3
FROM_STATIC_BROKER = 4
FROM_DEFAULT = 5
SET, DELETE, APPEND, SUBTRACT = range(4)


def describe_configs(context: Context, request: Any) -> Response:
    return {"results": [_describe(context.broker, resource, request) for resource in request.resources]}


def alter_configs(context: Context, request: Any) -> Response:
    """The old way: what is not named goes back to its default."""

    def change(topic: Topic, configs: Any) -> dict[str, str]:
        return {config.name: config.value for config in configs}

    return _alter_each(context.broker, request, change)


def incremental_alter_configs(context: Context, request: Any) -> Response:
    return _alter_each(context.broker, request, _changed)


def list_config_resources(context: Context, request: Any) -> Response:
    """Version 0 asks for client metrics alone; there are none."""
    wanted = getattr(request, "resource_types", (16,)) or tuple(KNOWN_RESOURCES)
    if any(kind not in KNOWN_RESOURCES for kind in wanted):
        return {"error_code": ErrorCode.unsupported_version}
    listed = [(str(NODE_ID), BROKER)] if BROKER in wanted else []
    if TOPIC in wanted:
        listed += [(name, TOPIC) for name in context.broker.topics.by_name]
    return {"config_resources": [{"resource_name": name, "resource_type": kind} for name, kind in listed]}


def describe_topic_configs(topic: Topic, defaults: ClusterDefaults) -> list[dict[str, Any]]:
    entries = []
    for name, config in TOPIC_CONFIGS.items():
        synonyms = [{"name": name, "value": topic.configs[name], "source": FROM_TOPIC}] if name in topic.configs else []
        if name in defaults.values:
            synonyms.append({"name": config.synonym, "value": defaults.values[name], "source": FROM_CLUSTER_DEFAULT})
        if config.synonym is not None:
            synonyms.append({"name": config.synonym, "value": config.default, "source": FROM_DEFAULT})
        value, source = (synonyms[0]["value"], synonyms[0]["source"]) if synonyms else (config.default, FROM_DEFAULT)
        entries.append(
            {
                "name": name,
                "value": value,
                "config_source": source,
                "is_default": source == FROM_DEFAULT,
                "config_type": config.type,
                "synonyms": synonyms,
                "documentation": config.says,
            }
        )
    return entries


def _describe(broker: Broker, resource: Any, request: Any) -> dict[str, Any]:
    name, kind = resource.resource_name, resource.resource_type
    result: dict[str, Any] = {"resource_type": kind, "resource_name": name, "error_message": ""}
    try:
        if kind == TOPIC:
            check_name(name)
            configs = describe_topic_configs(broker.topics.get(name), broker.cluster_defaults)
        elif kind == BROKER:
            _check_broker(name)
            configs = _describe_broker(broker) if name else _describe_cluster_defaults(broker.cluster_defaults)
        else:
            raise Refused(ErrorCode.invalid_request, f"the {_kind(kind)} cannot be described; topics and brokers can")
    except Refused as refused:
        return {**result, "error_code": refused.code, "error_message": refused.message}
    wanted = resource.configuration_keys
    chosen = [config for config in configs if not wanted or config["name"] in wanted]
    if not getattr(request, "include_synonyms", False):
        chosen = [{**config, "synonyms": ()} for config in chosen]
    if not getattr(request, "include_documentation", False):
        chosen = [{**config, "documentation": None} for config in chosen]
    return {**result, "configs": chosen}


def _describe_broker(broker: Broker) -> list[dict[str, Any]]:
    dynamic = {config["name"]: config for config in _describe_cluster_defaults(broker.cluster_defaults)}
    entries = []
    for config in broker_configs(broker):
        source = FROM_STATIC_BROKER if config.chosen else FROM_DEFAULT
        entry = {
            "name": config.name,
            "value": config.value,
            "read_only": True,
            "config_source": source,
            "is_default": not config.chosen,
            "config_type": config.type,
            "synonyms": [{"name": config.name, "value": config.value, "source": source}],
            "documentation": config.says,
        }
        if config.name in dynamic:
            set_for_all = dynamic[config.name]
            entry = {**set_for_all, "synonyms": [*set_for_all["synonyms"], *entry["synonyms"]]}
        entries.append(entry)
    return entries


def _describe_cluster_defaults(defaults: ClusterDefaults) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "value": value,
            "read_only": False,
            "config_source": FROM_CLUSTER_DEFAULT,
            "is_default": False,
            "config_type": TOPIC_CONFIGS[name].type,
            "synonyms": [{"name": name, "value": value, "source": FROM_CLUSTER_DEFAULT}],
            "documentation": TOPIC_CONFIGS[name].says,
        }
        for name, value in defaults.values.items()
    ]


def _alter_each(broker: Broker, request: Any, change: Any) -> Response:
    times = Counter((resource.resource_type, resource.resource_name) for resource in request.resources)
    responses = []
    for resource in request.resources:
        kind, name = resource.resource_type, resource.resource_name
        response: dict[str, Any] = {"resource_type": kind, "resource_name": name, "error_message": None}
        try:
            if times[kind, name] > 1:
                raise Refused(ErrorCode.invalid_request, "Each resource must appear at most once.")
            _check_changes(resource.configs)
            if kind == BROKER:
                _check_broker(name)
                _alter_broker(broker.cluster_defaults, resource, request.validate_only)
                responses.append(response)
                continue
            if kind != TOPIC:
                raise Refused(ErrorCode.invalid_request, f"the {_kind(kind)} cannot be changed; topics can")
            if not name:
                raise Refused(ErrorCode.invalid_request, "Default topic resources are not allowed.")
            check_name(name)
            topic = broker.topics.get(name)
            configs = check_configs(change(topic, resource.configs))
            if not request.validate_only:
                broker.topics.configure(name, configs)
        except Refused as refused:
            response |= {"error_code": refused.code, "error_message": refused.message}
        responses.append(response)
    return {"responses": responses}


def _alter_broker(defaults: ClusterDefaults, resource: Any, validate_only: bool) -> None:
    """Change what holds for all brokers together; the rest was decided when the broker was started."""
    if fixed := [change.name for change in resource.configs if change.name not in ALWAYS_SET]:
        reason = f"Cannot update these configs dynamically: [{', '.join(fixed)}]"
        raise Refused(ErrorCode.invalid_request, reason)
    changes: dict[str, str] = {}
    for change in resource.configs:
        operation = getattr(change, "config_operation", SET)
        if resource.resource_name:
            reason = f"Broker-level {change.name} cannot be altered while ELR is enabled."
            raise Refused(ErrorCode.invalid_config, reason)
        if operation == DELETE:
            reason = f"Cluster-level {change.name} cannot be removed while ELR is enabled."
            raise Refused(ErrorCode.invalid_config, reason)
        if operation != SET:
            reason = f"Config value append or subtract is not allowed for config key: {change.name}"
            raise Refused(ErrorCode.invalid_config, reason)
        changes[change.name] = change.value
    defaults.change(changes, validate_only=validate_only)


def _check_broker(name: str) -> None:
    if name and not name.isdigit():
        raise Refused(ErrorCode.invalid_request, f"Broker id must be an integer, but it is: {name}")
    if name not in ("", str(NODE_ID)):
        raise Refused(ErrorCode.invalid_request, f"Unexpected broker id, expected {NODE_ID}, but received {name}")


def _check_changes(changes: Any) -> None:
    names = [change.name for change in changes]
    if len(set(names)) < len(names):
        raise Refused(ErrorCode.invalid_request, "Error due to duplicate config keys")
    nulls = [c.name for c in changes if c.value is None and getattr(c, "config_operation", SET) != DELETE]
    if nulls:
        raise Refused(ErrorCode.invalid_request, f"Null value not supported for : {', '.join(nulls)}")


def _kind(resource_type: int) -> str:
    return f"configuration of resource type {KNOWN_RESOURCES.get(resource_type, resource_type)}"


def _changed(topic: Topic, changes: Any) -> dict[str, str]:
    configs = dict(topic.configs)
    for change in changes:
        name, value = change.name, change.value
        if change.config_operation == SET:
            configs[name] = value
        elif change.config_operation == DELETE:
            configs.pop(name, None)
        elif change.config_operation in (APPEND, SUBTRACT):
            append = change.config_operation == APPEND
            configs[name] = _changed_list(topic, name, value.split(","), append=append)
        else:
            raise Refused(ErrorCode.invalid_request, f"no operation {change.config_operation}")
    return configs


def _changed_list(topic: Topic, name: str, named: list[str], *, append: bool) -> str:
    if name not in TOPIC_CONFIGS or TOPIC_CONFIGS[name].type != ConfigType.LIST:
        how = "APPEND" if append else "SUBTRACT"
        raise Refused(ErrorCode.invalid_config, f"Can't {how} to key {name} because its type is not LIST.")
    listed = [item for item in topic.config(name).split(",") if item]
    if append:
        return ",".join(dict.fromkeys([*listed, *named]))
    return ",".join(item for item in listed if item not in named)
