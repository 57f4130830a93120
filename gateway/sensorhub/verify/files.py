"""Files of a dataset directory: which there should be, and whether they are the ones listed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sensorhub.verify.answers import INTACT, Answer, Check, conclude
from sensorhub.verify.manifest import MANIFEST, Manifest

BLOCK: Final = 1 << 20
"""Bytes read at a time."""


def sha256_file(path: Path, progress: Callable[[int], None] | None = None) -> tuple[int, bytes]:
    """Length and SHA-256 of a file.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
            if progress is not None:
                progress(len(block))
    return size, digest.digest()


def check_files(directory: Path, manifest: Manifest) -> Answer:
    """The answer intact of a dataset: the manifest's digest, each listed file, nothing else lying about."""
    checks = [
        Check(
            "manifest",
            manifest.digest_holds,
            f"{MANIFEST} is {'' if manifest.digest_holds else 'not '}as it was written",
        )
    ]
    for listed in manifest.files:
        try:
            size, digest = sha256_file(directory / listed.path)
        except OSError as error:
            checks.append(Check(listed.path, False, f"{listed.path}: {error.strerror or error}"))
            continue
        if size != listed.size:
            checks.append(
                Check(listed.path, False, f"{listed.path} has {size} bytes, the manifest says {listed.size}")
            )
        elif digest != listed.sha256:
            checks.append(
                Check(listed.path, False, f"{listed.path} is not the file that the manifest lists (SHA-256)")
            )
        else:
            checks.append(Check(listed.path, True, f"{listed.path} is the file that the manifest lists"))
    known = {MANIFEST, *(listed.path for listed in manifest.files)}
    strays = sorted(
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if not path.is_dir() and str(path.relative_to(directory)) not in known
    )
    text = "no other file lies in the directory"
    if strays:
        text = f"{strays[0]}{f' and {len(strays) - 1} more' if len(strays) > 1 else ''} does not belong to the dataset"
    checks.append(Check("no-other-files", not strays, text))
    rests_on = ("the sums in the manifest, which tell accidents, not deceit",)
    return conclude(
        INTACT,
        checks,
        summary=f"all {len(manifest.files) + 1} files are as they were written",
        rests_on=rests_on,
    )
