"""The temperature system: `millstream up --system temperature.system:system`."""

from millstream import System

system = System("temperature", services=["temperature.pipeline:analytics"])
