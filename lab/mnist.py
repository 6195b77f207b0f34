"""MNIST on disk, checked, mended and fetched; and the digits that stand in where it can't be had.

Folder and mirrors are torchvision's, which trusts an extracted file by its name, and sets a mirror no limit.
Here every byte that is returned has been compared with a checksum, and every wait has an end.
"""

import gzip
import hashlib
import http.client
import os
import tempfile
import time
import urllib.request
import zlib
from pathlib import Path

import torch
import torch.nn.functional as F

ROOT = Path(__file__).resolve().parent.parent
MIRRORS = ["https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"]
FILES = {   # SHA-256 of the extracted files
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MEAN, STD = 0.1307, 0.3081   # of the 60,000 training images scaled to [0, 1]
WAIT, DEADLINE = 20, 300   # seconds for each piece of a file, and for the whole file


class NoMnist(Exception):
    """MNIST is not on disk, and no mirror gives it."""


class DataError(Exception):
    """MNIST is damaged on disk, or can't be kept there, and the user has to act."""


def root():
    """Return MNIST's folder: $MNIST_ROOT, seen from the repository's folder, or `data` there."""
    return ROOT / os.path.expanduser(os.environ.get("MNIST_ROOT") or "data")


def load():
    """Return training and test set: images (N, 28, 28) and labels (N,), uint8. Raises NoMnist, DataError."""
    return [(_array(f"{part}-images-idx3-ubyte", 16).view(-1, 28, 28), _array(f"{part}-labels-idx1-ubyte", 8))
            for part in ("train", "t10k")]


def at_hand():
    """Tell whether MNIST can be had, and fetch it where it is missing. Raises DataError."""
    try:
        return bool(load())
    except NoMnist:
        return False


def _array(name, header):
    """Return file `name` without its header, from the first that is MNIST's: it, its archive, a mirror's."""
    path = root() / "MNIST" / "raw" / name
    archive = path.with_name(f"{name}.gz")
    faults = {}
    for source in (path, archive, *(mirror + archive.name for mirror in MIRRORS)):
        fetched = isinstance(source, str)
        try:
            stored = _download(source) if fetched else source.read_bytes()
            content = stored if source == path else gzip.decompress(stored)
            if hashlib.sha256(content).hexdigest() == FILES[name]:
                break
            faults[source] = f"{len(stored):,} bytes that are not MNIST's"
        except FileNotFoundError:
            continue
        except (OSError, EOFError, zlib.error, http.client.HTTPException) as error:   # unreadable, cut off
            faults[source] = error
    else:
        tried = "; ".join(f"{source}: {fault}" for source, fault in faults.items())
        if path in faults or archive in faults:
            raise DataError(f"{tried}; delete what is damaged and try again with a network")
        raise NoMnist(f"{archive.name} can't be fetched ({tried})")
    try:
        if fetched:
            _write(archive, stored)
        if source != path:
            _write(path, content)
    except OSError as error:
        if fetched:   # else the archive is there, and the folder may be somebody else's
            raise DataError(f"{path} can't be written: {error.strerror}; make room, or set MNIST_ROOT "
                            "to a folder that can be written") from None
    if fetched or faults:
        how = "fetched" if fetched else "unpacked again"
        print(f"MNIST: {name} {'was damaged, ' if path in faults else ''}{how}")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header)


def _download(url):
    """Return what `url` sends, in the time that it has."""
    content, end = bytearray(), time.monotonic() + DEADLINE
    with urllib.request.urlopen(url, timeout=WAIT) as answer:
        while piece := answer.read1(2**16):
            content += piece
            if time.monotonic() > end:
                raise TimeoutError(f"not done after {DEADLINE} seconds")
    return content


def _write(path, content):
    """Write `path` whole or not at all, whoever else is writing it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as beside:
        part = Path(beside, path.name)
        part.write_bytes(content)
        part.replace(path)


def digits_sample():
    """Return scikit-learn's digits as images (N, 1, 28, 28) in [0, 1] and labels: 1,437 and 360."""
    from sklearn.datasets import load_digits  # here, for it takes a second

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    images = F.interpolate(images, size=(28, 28), mode="bilinear", align_corners=False)
    return split(images, torch.tensor(digits.target), 360)


def split(images, labels, count):
    """Split off `count` images and labels, chosen at random but always the same ones, as the second part."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).to(labels.device)
    return [(images[part], labels[part]) for part in (order[count:], order[:count])]
