"""Signed notes and checkpoints."""

from __future__ import annotations

import base64
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorhub.log.merkle import EMPTY_ROOT
from sensorhub.log.note import (
    Checkpoint,
    NoteError,
    NoteSigner,
    NoteVerifier,
    open_checkpoint,
    open_note,
    sign_note,
)

# The key pair, message and signature in the documentation of Go's golang.org/x/mod/sumdb/note.
GO_SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
)
GO_NOTE = (
    f"{GO_TEXT}\n\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()


@pytest.fixture
def signer() -> NoteSigner:
    return NoteSigner("site.gw/sensorhub", bytes(range(32)))


def test_the_same_note_as_another_implementation(tmp_path):
    path = tmp_path / "go.key"
    path.write_text(GO_SIGNER + "\n")
    signer = NoteSigner.load(path)
    assert signer.verifier_key == GO_VERIFIER
    assert sign_note(GO_TEXT, signer) == GO_NOTE
    assert open_note(GO_NOTE, NoteVerifier.parse(GO_VERIFIER)) == GO_TEXT


def test_key_files(tmp_path, signer):
    path = tmp_path / "keys" / "note.key"
    signer.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = NoteSigner.load(path)
    assert loaded.verifier == signer.verifier
    assert loaded.sign(b"x\n") == signer.sign(b"x\n")
    with pytest.raises(NoteError, match="never overwritten"):
        signer.save(path)
    assert NoteSigner.generate("a").public_key != NoteSigner.generate("a").public_key


def test_damaged_key_files_do_not_show_the_key(tmp_path, signer):
    path = tmp_path / "note.key"
    signer.save(path)
    secret = path.read_text().strip().rsplit("+", 1)[1]
    for text in (
        "",
        "PRIVATE+KEY+a",
        secret,
        f"PRIVATE+KEY+other+00000000+{secret}",
        "PRIVATE+KEY+a+00000000+!",
    ):
        path.write_text(text)
        with pytest.raises(NoteError) as caught:
            NoteSigner.load(path)
        assert secret not in str(caught.value)
    with pytest.raises(NoteError, match="cannot read"):
        NoteSigner.load(tmp_path / "missing")
    assert bytes(range(32)).hex() not in repr(signer)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u2003b"])
def test_names_that_a_note_cannot_carry(name):
    with pytest.raises(NoteError, match="key name"):
        NoteSigner(name, bytes(32))


def test_several_signatures(signer):
    witness = NoteSigner("witness.example", b"w" * 32)
    stranger = NoteSigner("stranger.example", b"s" * 32)
    note = sign_note("text\n\nwith an empty line\n", signer, witness)
    for known in ([signer], [witness], [signer, witness], [stranger, witness]):
        assert open_note(note, *(key.verifier for key in known)) == "text\n\nwith an empty line\n"
    with pytest.raises(NoteError, match=r"not signed by stranger\.example"):
        open_note(note, stranger.verifier)
    with pytest.raises(NoteError, match="nobody"):
        open_note(note)
    # A name that is known under another key id is a stranger, not a bad signature.
    namesake = NoteSigner(signer.name, b"n" * 32)
    with pytest.raises(NoteError, match="not signed by"):
        open_note(sign_note("text\n", namesake), signer.verifier)


def test_a_bad_signature_of_a_known_key_refuses_the_note(signer):
    witness = NoteSigner("witness.example", b"w" * 32)
    good = sign_note("text\n", witness).decode()
    bad = f"\u2014 {signer.name} {base64.b64encode(signer.key_id + bytes(64)).decode()}\n"
    with pytest.raises(NoteError, match="is wrong"):
        open_note((good + bad).encode(), signer.verifier, witness.verifier)
    assert open_note((good + bad).encode(), witness.verifier) == "text\n"


@pytest.mark.parametrize("text", ["", "no newline", "tab\there\n"])
def test_texts_that_a_note_cannot_carry(text, signer):
    with pytest.raises(NoteError):
        sign_note(text, signer)


def test_malformed_notes(signer):
    note = sign_note("text\n", signer)
    for bad in (
        b"",
        b"text\n",
        note[:-1],
        note.replace(b"\n\n", b"\n"),
        note + b"\n",
        b"\xff" + note,
        note.replace(b"text", b"te\x00t"),
        note + "\u2014 nothing\n".encode(),
        note + b"- name AAAAAAAA\n",
        note * 20_000,
    ):
        with pytest.raises(NoteError):
            open_note(bad, signer.verifier)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_flipped_bit_of_a_checkpoint_is_noticed(data: st.DataObject):
    signer = NoteSigner("site.gw/sensorhub", bytes(range(32)))
    checkpoint = Checkpoint("site.gw/sensorhub", 20_852_163, data.draw(st.binary(min_size=32, max_size=32)))
    note = bytearray(sign_note(checkpoint.format(), signer))
    assert open_checkpoint(bytes(note), signer.verifier) == checkpoint
    bit = data.draw(st.integers(0, 8 * len(note) - 1))
    note[bit // 8] ^= 1 << bit % 8
    with pytest.raises(NoteError):
        open_checkpoint(bytes(note), signer.verifier)


def test_checkpoint_text():
    checkpoint = Checkpoint("example.com/log", 0, EMPTY_ROOT)
    assert checkpoint.format() == "example.com/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    assert Checkpoint.parse(checkpoint.format()) == checkpoint
    assert Checkpoint.parse(checkpoint.format() + "an extension\n") == checkpoint
    with pytest.raises(NoteError):
        Checkpoint("two\nlines", 0, EMPTY_ROOT).format()
    with pytest.raises(NoteError):
        Checkpoint("x", 0, b"short").format()


@pytest.mark.parametrize(
    "text",
    [
        "a\n1\n",
        "a\n01\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "a\n-1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "a\n\u0661\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "a\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=\n",
        "a\n1\n47DEQpj8HBQ=\n",
        "a\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "a\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n",
    ],
)
def test_malformed_checkpoints(text):
    with pytest.raises(NoteError):
        Checkpoint.parse(text)


def test_a_checkpoint_of_another_log(signer):
    note = sign_note(Checkpoint("other/log", 1, bytes(32)).format(), signer)
    with pytest.raises(NoteError, match="of the log 'other/log'"):
        open_checkpoint(note, signer.verifier, origin="site.gw/sensorhub")


@pytest.mark.parametrize(
    "text", ["a", "a+00000000+AAAA", GO_VERIFIER.replace("c74f20a3", "c74f20a4"), GO_VERIFIER[:-4]]
)
def test_malformed_verifier_keys(text):
    with pytest.raises(NoteError):
        NoteVerifier.parse(text)
