"""Runs an ingest until SIGTERM; settings come as JSON on standard input. Started by the tests and the bench."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from sensorhub.ingest.service import Ingest
from sensorhub.ingest.subscriber import Endpoint
from sensorhub.log.note import NoteSigner
from sensorhub.processes import call_when, stop_on_signal
from sensorhub.status import StatusFile


def main() -> None:
    settings = msgspec.json.decode(sys.stdin.buffer.read())
    data_dir = Path(settings["data_dir"])
    site, gateway = settings["site"], settings["gateway"]
    ingest = Ingest(
        data_dir=data_dir,
        site=site,
        gateway=gateway,
        signer=NoteSigner(f"{site}.{gateway}/sensorhub", bytes(range(32))),
        endpoint=Endpoint(
            settings["host"], settings["port"], "gateway", settings["username"], settings["password"]
        ),
        status=StatusFile(data_dir, "ingest"),
        **settings["options"],
    )
    with stop_on_signal() as stop:
        call_when(stop, ingest.stop)
        ingest.run()


if __name__ == "__main__":
    main()
