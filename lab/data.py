"""MNIST by torchvision, verified; and the digits that stand in where it can't be had.

torchvision fetches it, but trusts a file by its name, and waits for a mirror without end. Here what is loaded
has been compared with digests, every wait has an end, and what lies in the folder is never changed.
"""

import hashlib
import os
import socket
import tempfile
import zlib
from contextlib import redirect_stderr, suppress
from http.client import HTTPException
from io import StringIO
from pathlib import Path

import torch
import torch.nn.functional as F

ROOT = Path(__file__).resolve().parent.parent
FILES = {   # SHA-256 of the extracted files
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MEAN, STD = 0.1307, 0.3081   # of the 60,000 training images scaled to [0, 1]
WAIT = 20   # seconds in which a mirror has to send something


class NoMnist(Exception):
    """MNIST is not on disk, and can't be fetched."""


class DataError(Exception):
    """What lies where MNIST should is not MNIST, and the user has to act."""


def root():
    """Return MNIST's folder: $MNIST_ROOT, seen from the repository's folder, or `data` there."""
    return ROOT / os.path.expanduser(os.environ.get("MNIST_ROOT") or "data")


def load():
    """Return training and test set: images (N, 28, 28) and labels (N,), uint8. Raises NoMnist, DataError."""
    if not all(map(_stored, FILES)):
        _fetch()
    return [(_array(f"{part}-images-idx3-ubyte", 16).view(-1, 28, 28), _array(f"{part}-labels-idx1-ubyte", 8))
            for part in ("train", "t10k")]


def at_hand():
    """Tell whether MNIST can be had, and fetch it where it is missing. Raises DataError."""
    with suppress(NoMnist):
        return bool(load())
    return False


def _stored(name):
    """Return the path of file `name`, or of its archive, or None."""
    raw = root() / "MNIST" / "raw"
    return next((path for path in (raw / name, raw / f"{name}.gz") if path.exists()), None)


def _fetch():
    """Put those of MNIST's files that are missing into its folder, each of them whole. Raises NoMnist."""
    from torchvision.datasets import MNIST  # here, for it takes a second

    raw, wait = root() / "MNIST" / "raw", socket.getdefaulttimeout()
    socket.setdefaulttimeout(WAIT)
    try:   # beside the folder, and without torchvision's bars
        raw.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=raw.parent) as folder, redirect_stderr(StringIO()):
            for path in Path(MNIST(folder, download=True).raw_folder).iterdir():
                if not (raw / path.name).exists():
                    path.rename(raw / path.name)
    except (OSError, RuntimeError, HTTPException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise NoMnist(f"MNIST can't be fetched ({reason}); its files, such as train-images-idx3-ubyte.gz,"
                      f" belong into {root().name}/MNIST/raw") from None
    finally:
        socket.setdefaulttimeout(wait)


def _array(name, header):
    """Return the bytes of file `name` that follow its header."""
    path, content = _stored(name), b""
    with suppress(OSError, zlib.error):
        content = path.read_bytes()
        content = zlib.decompress(content, 31) if path.suffix == ".gz" else content   # 31: as gzip's
    if hashlib.sha256(content).hexdigest() != FILES[name]:
        raise DataError(f"{path.parent} does not hold MNIST, as the digest of {path.name} says; nothing was"
                        " touched: delete the folder to have MNIST fetched, or let MNIST_ROOT name another")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header)


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
