"""MNIST on disk: found, checked, mended and fetched.

The files are those of torchvision's MNIST folder, in `raw/` as extracted files, archives, or
both. torchvision trusts an extracted file by its name; here every byte that is returned has
been compared with a checksum, and what is damaged is unpacked or fetched again.
"""

import gzip
import hashlib
import http.client
import os
import tempfile
import time
import urllib.request
from pathlib import Path

import torch
from torchvision.datasets import MNIST

ROOT = Path(__file__).resolve().parent
FILES = {   # SHA-256 of the extracted files; the archives' MD5 is torchvision's
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
WAIT = 20       # seconds for an answer, and for each piece of a file
DEADLINE = 300  # seconds for a whole file


class NoMnist(Exception):
    """MNIST is not on disk, and no mirror gives it."""


class DataError(Exception):
    """MNIST is on disk in part or damaged, or can't be kept there, and the user has to act."""


def root():
    """Return the folder that holds, or will hold, MNIST: $MNIST_ROOT, seen from this file's folder, or `data` in it."""
    return ROOT / os.environ.get("MNIST_ROOT", "data")


def load():
    """Return MNIST's training and test set, each as images (N, 28, 28) and labels (N,), uint8 tensors.

    What had to be mended is said in a line. Raises NoMnist or DataError.
    """
    raw = root() / "MNIST" / "raw"
    contents = {name: _content(raw, name) for name in FILES}
    return [(torch.frombuffer(bytearray(contents[f"{part}-images-idx3-ubyte"]), dtype=torch.uint8, offset=16).view(-1, 28, 28),
             torch.frombuffer(bytearray(contents[f"{part}-labels-idx1-ubyte"]), dtype=torch.uint8, offset=8))
            for part in ("train", "t10k")]


def at_hand():
    """Tell whether MNIST can be had; fetch it where it is missing. Raises DataError."""
    try:
        load()
    except NoMnist:
        return False
    return True


def _content(raw, name):
    """Return the checked content of file `name`, from the first of: the file, its archive, a mirror."""
    path, archive = raw / name, raw / f"{name}.gz"
    found = []   # what is there and not MNIST's
    try:
        if path.exists():
            content = path.read_bytes()
            if _sha256(content) == FILES[name]:
                return content
            found.append(f"{path} has {len(content):,} bytes that are not MNIST's")
        if archive.exists():
            packed = archive.read_bytes()
            if _md5(packed) == _archives()[archive.name]:
                content = gzip.decompress(packed)
                try:
                    _keep(content, path)
                except OSError:   # a full disk or somebody else's folder: what is needed is in memory
                    pass
                if found:
                    print(f"MNIST: {found[0]}; unpacked again")
                return content
            found.append(f"{archive} has {len(packed):,} bytes that are not MNIST's")
    except OSError as error:
        raise DataError(f"{error.filename} can't be read: {error.strerror}; mend that, or set MNIST_ROOT to another folder") from None
    try:
        packed = _fetch(archive.name)
    except NoMnist as error:
        if not found:
            raise
        raise DataError(f"{'; '.join(found)} (expected SHA-256 {FILES[name]}), and {error}; "
                        f"delete {'it' if len(found) == 1 else 'them'} and try again with a network") from None
    content = gzip.decompress(packed)
    try:
        raw.mkdir(parents=True, exist_ok=True)
        _keep(packed, archive)
        _keep(content, path)
    except OSError as error:
        raise DataError(f"{archive} can't be written: {error.strerror}; make room, or set MNIST_ROOT to a folder that can be written") from None
    print(f"MNIST: {'; '.join(found) + '; ' if found else ''}fetched {archive.name}")
    return content


def _fetch(name):
    """Return the checked bytes of the archive `name` from the first mirror that has it; raise NoMnist with what each one said."""
    failures = []
    for mirror in MNIST.mirrors:
        try:
            packed, end = b"", time.monotonic() + DEADLINE
            with urllib.request.urlopen(mirror + name, timeout=WAIT) as answer:
                while piece := answer.read1(2**16):
                    packed += piece
                    if time.monotonic() > end:
                        raise TimeoutError(f"not done after {DEADLINE} seconds")
            if _md5(packed) == _archives()[name]:
                return packed
            failures.append(f"{mirror}: {len(packed):,} bytes that are not MNIST's")
        except (OSError, http.client.HTTPException) as error:   # refused, cut, silent: URLError and timeouts are OSErrors
            failures.append(f"{mirror}: {error}")
    raise NoMnist(f"{name} can't be fetched ({'; '.join(failures)})")


def _keep(content, path):
    """Write `path` whole or not at all, whoever else is writing it."""
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(part, 0o644)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def _archives():
    return dict(MNIST.resources)


def _md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _sha256(content):
    return hashlib.sha256(content).hexdigest()
