"""The aiohttp application: page, JSON API and the public C2SP log endpoints.

Everything here but `enrolment` is read-only and reads what the other processes publish: the committed log, the store and the
status files. Nothing it answers has to be believed: the log endpoints and the proofs are what a stranger
checks.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from typing import Final

from aiohttp import web

from sensorhub.addresses import authority
from sensorhub.errors import SensorhubError
from sensorhub.web.answers import add_headers, explain
from sensorhub.web.api import Api
from sensorhub.web.assets import Assets
from sensorhub.web.enrolment import Enrolling, Enrolment
from sensorhub.web.explaining import Explaining, Judge
from sensorhub.web.gateway import Gateway
from sensorhub.web.hosts import Hosts
from sensorhub.web.public_log import PublicLog
from sensorhub.web.quality_api import QualityApi
from sensorhub.web.releases import Releases

__all__ = ["Gateway", "make_app", "serve"]

#: Seconds that answers under way get to finish when the process is told to stop.
SHUTDOWN_S: Final = 3.0


async def _alive(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n", headers={"Cache-Control": "no-store"})


def make_app(
    gateway: Gateway,
    prove: Callable[[int], bytes],
    enrolling: Enrolling | None = None,
    judge: Judge | None = None,
    hosts: Iterable[str] = (),
) -> web.Application:
    """The application.

    Args:
        gateway: what the handlers read; closed when the application ends.
        prove: makes the proof file of one log entry; SensorhubError when it cannot.
        enrolling: lets who has a token make nodes known; None for nobody.
        judge: with what readings are judged anew to explain them; None for the packaged model.
        hosts: names that it answers to, beside addresses, `localhost` and the machine's own.
    """
    api, log, assets = Api(gateway, prove), PublicLog(gateway), Assets()
    quality, explaining = QualityApi(gateway), Explaining(gateway, judge or Judge())
    app = web.Application(middlewares=[explain, Hosts(hosts).check])
    app.on_response_prepare.append(add_headers)
    app.add_routes(
        [
            web.get("/", assets.page),
            web.get("/static/{path:.+}", assets.file),
            web.get("/healthz", _alive),
            web.get("/api/v1/status", api.status),
            web.get("/api/v1/channels", api.channels),
            web.get("/api/v1/flags", api.flags),
            web.get("/api/v1/nodes", api.nodes),
            web.get("/api/v1/nodes/{node}/latest", api.latest),
            web.get("/api/v1/series", api.series),
            web.get("/api/v1/proof/{index}", api.proof),
            web.get("/api/v1/quality", quality.days),
            web.get("/api/v1/reviews", quality.reviews),
            web.get("/api/v1/explain", explaining.words),
            web.get("/api/v1/explain.svg", explaining.picture),
            web.get("/log/checkpoint", log.checkpoint),
            web.get("/log/tile/{path:.+}", log.tile),
            web.get("/releases/{name}", Releases(gateway.data_dir).image),
        ]
    )
    if enrolling is not None:
        enrolment = Enrolment(gateway, enrolling)
        app.add_routes(
            [web.get("/api/v1/enrolment", enrolment.look), web.post("/api/v1/nodes", enrolment.add)]
        )

    async def close(_app: web.Application) -> None:
        await asyncio.to_thread(gateway.close)

    app.on_cleanup.append(close)
    return app


async def serve(
    app: web.Application, host: str, port: int, stop: asyncio.Event, ready: Callable[[int], None]
) -> None:
    """Serves until `stop` is set.

    Args:
        ready: called with the port once it listens (port 0 chooses a free one).

    Raises:
        SensorhubError: the address cannot be bound.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, reuse_address=True)
        try:
            await site.start()
        except OSError as error:
            # asyncio's own words repeat the address; names that cannot be resolved have numbers below 0
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            raise SensorhubError(
                f"the page cannot listen on {authority(host, port)}: {reason}; free the port or set web.port"
            ) from None
        ready(runner.addresses[0][1])
        await stop.wait()
    finally:
        await runner.cleanup()
