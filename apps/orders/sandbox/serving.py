"""Serving a sandbox process over HTTP, with `/metrics` and `/health` in front."""

import uvicorn

from millstream.settings import Settings
from millstream.telemetry.health import Health
from millstream.telemetry.serve import Application, Observed


def serve(app: Application, settings: Settings, health: Health | None = None) -> None:
    """Serves `app` on `settings.http` until SIGTERM or SIGINT."""
    host, port = settings.listen
    uvicorn.run(
        Observed(app, health or Health()),
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
    )
