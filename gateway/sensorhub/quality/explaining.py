"""Explains one reading in a process of its own, for programs that must not wait or grow: JSON on stdout.

    python -m sensorhub.quality.explaining LOG NODE CHANNEL TIME MESSAGE VERDICT MODEL SHA256 SECONDS

MESSAGE and VERDICT are log indices, VERDICT may be -1; MODEL is a file, empty for the packaged one, `-` for none. It ends itself after
SECONDS of CPU time, whatever became of its parent.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

from sensorhub.errors import SensorhubError
from sensorhub.log.reader import LogReader
from sensorhub.quality.explain import document, explain, picture
from sensorhub.quality.model import Model, ModelError, ModelFile, shipped


def main(words: list[str]) -> int:
    """Prints `{.., "picture": svg}` or, with exit code 1, why not in one line on stderr."""
    log, node, channel, time, message, verdict, file, sha256, seconds = words
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))
    os.nice(10)
    try:
        with LogReader(Path(log)) as reader:
            told = explain(
                reader,
                node,
                channel,
                float(time),
                model=_model(file, sha256),
                message=int(message),
                verdict=int(verdict) if int(verdict) >= 0 else None,
            )
    except SensorhubError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({**document(told), "picture": picture(told)}))
    return 0


def _model(file: str, sha256: str) -> Model | None:
    """The model that is asked; one that is refused is not, as in the quality process."""
    if file == "-":
        return None
    try:
        return Model.load(ModelFile(Path(file), sha256) if file else shipped())
    except ModelError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
