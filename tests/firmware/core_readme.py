"""firmware/README.md lists every key of node.json."""

import os

from sensornode.config import check


def test_every_setting_is_documented_and_every_documented_setting_exists():
    with open(os.getenv("PROJECT") + "/firmware/README.md") as file:
        text = file.read()
    table = text[text.index("## node.json") : text.index("## What is kept")]
    documented = set()
    for line in table.split("\n"):
        if line.startswith("| `"):
            prefix = ""
            for key in line.split("|")[1].split(","):
                key = key.strip().strip("`")
                if key.startswith("."):
                    key = prefix + key
                prefix = key.split(".")[0]
                documented.add(key.replace(".", "_"))
    data = {
        "site": "s",
        "node": "n",
        "kind": "k",
        "interval": 1,
        "broker": {"host": "h"},
        "sensors": [],
    }
    settings = {
        name
        for name in dir(check(data))
        if not name.startswith("_") and name not in ("load", "signed_sensors")
    }
    assert documented - {"sim"} == settings, documented ^ settings
