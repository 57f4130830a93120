"""The wire: signed SenML messages between nodes and gateway, and the topics they travel by.

Imports nothing heavier than cbor2 and coincurve, so that the verifier can use it.
"""

from sensorhub.wire.announce import Announce, decode_announce, encode_announce
from sensorhub.wire.cose import MAX_MESSAGE_BYTES, Signed, parse_signed, sig_structure, verify
from sensorhub.wire.keys import PublicKeyCache, kid, public_key_of
from sensorhub.wire.message import Message, Reading, decode, decode_pack, encode_message
from sensorhub.wire.reasons import Reason, WireError
from sensorhub.wire.receipt import decode_receipt, encode_receipt
from sensorhub.wire.senml import MAX_RECORDS, Pack, parse_pack
from sensorhub.wire.topics import NAME_PATTERN, split_topic, topic

__all__ = [
    "MAX_MESSAGE_BYTES",
    "MAX_RECORDS",
    "NAME_PATTERN",
    "Announce",
    "Message",
    "Pack",
    "PublicKeyCache",
    "Reading",
    "Reason",
    "Signed",
    "WireError",
    "decode",
    "decode_announce",
    "decode_pack",
    "decode_receipt",
    "encode_announce",
    "encode_message",
    "encode_receipt",
    "kid",
    "parse_pack",
    "parse_signed",
    "public_key_of",
    "sig_structure",
    "split_topic",
    "topic",
    "verify",
]
