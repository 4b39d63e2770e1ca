"""What devices send: Protobuf, which is small and spoken by every firmware. They know nothing of headers."""

from millstream import Event, Topic, days


class TemperatureReported(Event, key="device_id"):
    """One line of a device, field by field as it came: nothing is checked yet.

    `fields` is how many the line had; `temperature` is empty where this type of sensor sends none.
    """

    device_id: str
    sensor_type: str
    timestamp: str
    temperature: str
    fields: int


sensor_temperature = Topic(
    "sensor.temperature", TemperatureReported, partitions=6, retention=days(7), format="protobuf"
)
