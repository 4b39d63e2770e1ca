"""DescribeConfigs, AlterConfigs, IncrementalAlterConfigs: of topics; the broker's own can be read."""

from typing import Any

from kio.schema.errors import ErrorCode

from millstream.local.broker.api.context import Context
from millstream.local.broker.configs import TOPIC_CONFIGS, ConfigType, check_config
from millstream.local.broker.core import NODE_ID, Broker
from millstream.local.broker.errors import Refused
from millstream.local.broker.topics import Topic
from millstream.local.broker.wire.control import Response

TOPIC = 2
BROKER = 4
FROM_TOPIC = 1
FROM_STATIC_BROKER = 4
FROM_DEFAULT = 5
SET, DELETE, APPEND, SUBTRACT = range(4)


def describe_configs(context: Context, request: Any) -> Response:
    return {"results": [_describe(context.broker, resource) for resource in request.resources]}


def alter_configs(context: Context, request: Any) -> Response:
    """The old way: what is not named goes back to its default."""

    def change(topic: Topic, configs: Any) -> dict[str, str]:
        return {config.name: check_config(config.name, config.value) for config in configs}

    return _alter_each(context.broker, request, change)


def incremental_alter_configs(context: Context, request: Any) -> Response:
    return _alter_each(context.broker, request, _changed)


def describe_topic_configs(topic: Topic) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "value": topic.config(name),
            "config_source": FROM_TOPIC if name in topic.configs else FROM_DEFAULT,
            "is_default": name not in topic.configs,
            "config_type": config.type,
        }
        for name, config in TOPIC_CONFIGS.items()
    ]


def _describe(broker: Broker, resource: Any) -> dict[str, Any]:
    result: dict[str, Any] = {"resource_type": resource.resource_type, "resource_name": resource.resource_name}
    try:
        if resource.resource_type == TOPIC:
            configs = describe_topic_configs(broker.topics.get(resource.resource_name))
        elif resource.resource_type == BROKER and resource.resource_name in ("", str(NODE_ID)):
            configs = _broker_configs(broker)
        else:
            raise Refused(ErrorCode.invalid_request, "topics and this broker can be described")
    except Refused as refused:
        return {**result, "error_code": refused.code, "error_message": refused.message}
    wanted = resource.configuration_keys
    return {**result, "configs": [config for config in configs if not wanted or config["name"] in wanted]}


def _broker_configs(broker: Broker) -> list[dict[str, Any]]:
    values = {
        "auto.create.topics.enable": str(bool(broker.options.auto_create_partitions)).lower(),
        "broker.id": str(NODE_ID),
        "group.initial.rebalance.delay.ms": str(broker.options.initial_rebalance_delay),
        "num.partitions": str(broker.options.auto_create_partitions or 1),
        "transaction.max.timeout.ms": "900000",
    }
    return [
        {
            "name": name,
            "value": value,
            "read_only": True,
            "config_source": FROM_STATIC_BROKER,
            "config_type": ConfigType.STRING,
        }
        for name, value in values.items()
    ]


def _alter_each(broker: Broker, request: Any, change: Any) -> Response:
    responses = []
    for resource in request.resources:
        response: dict[str, Any] = {"resource_type": resource.resource_type, "resource_name": resource.resource_name}
        try:
            if resource.resource_type != TOPIC:
                raise Refused(ErrorCode.invalid_request, "only the configuration of topics can be changed")
            topic = broker.topics.get(resource.resource_name)
            configs = change(topic, resource.configs)
            if not request.validate_only:
                broker.topics.configure(topic.name, configs)
        except Refused as refused:
            response |= {"error_code": refused.code, "error_message": refused.message}
        responses.append(response)
    return {"responses": responses}


def _changed(topic: Topic, changes: Any) -> dict[str, str]:
    configs = dict(topic.configs)
    for change in changes:
        name, value = change.name, change.value
        if change.config_operation == DELETE:
            check_config(name, topic.config(name) if name in TOPIC_CONFIGS else None)
            configs.pop(name, None)
            continue
        if change.config_operation in (APPEND, SUBTRACT):
            if name not in TOPIC_CONFIGS or TOPIC_CONFIGS[name].type != ConfigType.LIST:
                raise Refused(ErrorCode.invalid_config, f"{name} is no list")
            listed = [item for item in configs.get(name, TOPIC_CONFIGS[name].default).split(",") if item]
            named = (value or "").split(",")
            listed = [item for item in listed if item not in named]
            value = ",".join(listed + (named if change.config_operation == APPEND else []))
        elif change.config_operation != SET:
            raise Refused(ErrorCode.invalid_request, f"no operation {change.config_operation}")
        configs[name] = check_config(name, value)
    return configs
