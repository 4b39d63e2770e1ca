"""Routes about the registry and its rules: `/config`, `/mode`, `/contexts`, `/v1/metadata`, `/`."""

from typing import Any

import msgspec

from millstream.local.registry.call import Call
from millstream.local.registry.errors import not_served, subject_without_config, subject_without_mode
from millstream.local.registry.policies import Policies
from millstream.local.registry.records import Config
from millstream.local.registry.routes import Route
from millstream.local.registry.store import Store

SPOKEN_VERSION = "8.0.0"
"""Confluent's release whose routes and answers these are."""


class ConfigBody(msgspec.Struct):
    """The settings that are served, and those that are refused by name. UNSET: to be kept; None: to be taken back."""

    compatibility: str | msgspec.UnsetType | None = msgspec.UNSET
    compatibilityLevel: str | msgspec.UnsetType | None = msgspec.UNSET  # noqa: N815 (Confluent's names)
    normalize: bool | msgspec.UnsetType | None = msgspec.UNSET
    alias: str | msgspec.UnsetType | None = msgspec.UNSET
    compatibilityGroup: str | msgspec.UnsetType | None = msgspec.UNSET  # noqa: N815
    aliasForDeks: Any = None  # noqa: N815
    validateFields: Any = None  # noqa: N815
    validateNewSchemas: Any = None  # noqa: N815
    validateRules: Any = None  # noqa: N815
    compatibilityPolicy: Any = None  # noqa: N815
    defaultMetadata: Any = None  # noqa: N815
    overrideMetadata: Any = None  # noqa: N815
    defaultRuleSet: Any = None  # noqa: N815
    overrideRuleSet: Any = None  # noqa: N815


_REFUSED = (
    "aliasForDeks",
    "validateFields",
    "validateNewSchemas",
    "validateRules",
    "compatibilityPolicy",
    "defaultMetadata",
    "overrideMetadata",
    "defaultRuleSet",
    "overrideRuleSet",
)


class ModeBody(msgspec.Struct):
    mode: str | None = None


class PolicyRoutes:
    def __init__(self, store: Store) -> None:
        self._catalog = store.catalog
        self._store = store
        self._policies = Policies(store)

    def table(self) -> list[Route]:
        return [
            ("GET", "/", self.nothing),
            ("POST", "/", self.nothing),
            ("GET", "/contexts", self.contexts),
            ("GET", "/config", self.config),
            ("PUT", "/config", self.update_config),
            ("DELETE", "/config", self.delete_config),
            ("GET", "/config/{subject}", self.config),
            ("PUT", "/config/{subject}", self.update_config),
            ("DELETE", "/config/{subject}", self.delete_config),
            ("GET", "/mode", self.mode),
            ("PUT", "/mode", self.set_mode),
            ("DELETE", "/mode", self.delete_mode),
            ("GET", "/mode/{subject}", self.mode),
            ("PUT", "/mode/{subject}", self.set_mode),
            ("DELETE", "/mode/{subject}", self.delete_mode),
            ("GET", "/v1/metadata/id", self.cluster),
            ("GET", "/v1/metadata/version", self.release),
        ]

    async def nothing(self, call: Call) -> dict[str, Any]:
        return {}

    async def contexts(self, call: Call) -> list[str]:
        return [context for context in ["."] if context.startswith(call.query.get("contextPrefix", ""))]

    async def config(self, call: Call) -> dict[str, Any]:
        await self._store.catch_up()
        scope = call.scope()
        if scope is None or call.flag("defaultToGlobal"):
            return _config(self._catalog.effective_config(scope))
        return _config(self._catalog.config(scope) or subject_without_config(scope))

    async def update_config(self, call: Call) -> dict[str, Any]:
        body = call.body(ConfigBody)
        for name in _REFUSED:
            if getattr(body, name) not in (None, False):
                not_served(name)
        levels = [level for level in (body.compatibility, body.compatibilityLevel) if level is not msgspec.UNSET]
        level = next((level for level in levels if level is not None), None) if levels else msgspec.UNSET
        wanted = {
            "level": level,
            "normalize": body.normalize,
            "alias": body.alias,
            "compatibilityGroup": body.compatibilityGroup,
        }
        given = {name: value for name, value in wanted.items() if value is not msgspec.UNSET}
        config = await self._policies.update_config(call.scope(), given)
        described = msgspec.to_builtins(config)
        return {("compatibility" if name == "compatibilityLevel" else name): of for name, of in described.items()}

    async def delete_config(self, call: Call) -> dict[str, Any]:
        return _config(await self._policies.delete_config(call.scope()))

    async def mode(self, call: Call) -> dict[str, str]:
        await self._store.catch_up()
        scope = call.scope()
        if scope is None or call.flag("defaultToGlobal"):
            return {"mode": self._catalog.effective_mode(scope)}
        return {"mode": self._catalog.mode(scope) or subject_without_mode(scope)}

    async def set_mode(self, call: Call) -> dict[str, str | None]:
        body = call.body(ModeBody)
        await self._policies.set_mode(call.scope(), body.mode, force=call.flag("force"))
        return {"mode": body.mode}

    async def delete_mode(self, call: Call) -> dict[str, str]:
        if call.flag("recursive"):
            not_served("recursive")
        return {"mode": await self._policies.delete_mode(call.scope())}

    async def cluster(self, call: Call) -> dict[str, Any]:
        clusters = {"kafka-cluster": await self._store.cluster_id(), "schema-registry-cluster": "schema-registry"}
        return {"scope": {"path": [], "clusters": clusters}}

    async def release(self, call: Call) -> dict[str, str]:
        return {"version": SPOKEN_VERSION, "commitId": "millstream"}


def _config(config: Config) -> dict[str, Any]:
    return {"compatibilityLevel": "BACKWARD"} | msgspec.to_builtins(config)
