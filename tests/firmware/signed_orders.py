"""Orders as the owners of the site's and the release key make them, for firmware tests."""

from sensornode import cbor, cose
from sensornode.ecdsa import SigningKey
from sensornode.orders import CONFIG, UPDATE

SITE = SigningKey(bytes(31) + b"\x15")
RELEASE = SigningKey(bytes(31) + b"\x16")
NAME = "urn:dev:sensorhub:lab:n:"


def sign(key, content, content_type):
    payload = content if isinstance(content, bytes) else cbor.encode(content)
    protected = cose.order_header(key.public, content_type)
    signature = key.sign_now(cose.digest(protected, payload))
    return b"\xd2" + cbor.encode([protected, {}, payload, signature])


def config(version, settings, name=NAME, firmware="0.0.1", key=SITE, expires=None):
    return sign(key, {0: name, 1: version, 2: firmware, 3: settings, 4: expires}, CONFIG)


def update(
    sequence,
    version="0.2.0",
    minimum="0.0.1",
    form="files",
    size=1,
    sha256=bytes(32),
    url="http://h/",
    **more,
):
    content = {
        0: more.get("name", NAME),
        1: sequence,
        2: version,
        3: minimum,
        4: form,
        5: size,
        6: sha256,
        7: url,
    }
    content[8] = more.get("board")
    content[9] = more.get("expires")
    return sign(more.get("key", RELEASE), content, UPDATE)
