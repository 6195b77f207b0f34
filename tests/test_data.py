"""MNIST on disk and from mirrors, on small files that are taken for MNIST's; the digits sample."""

import gzip
import hashlib
import socket
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from torchvision.datasets import MNIST

from lab import data

LABELS, TEST_LABELS = "train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"


@pytest.fixture
def raw(tmp_path, small_files, monkeypatch):
    """The folder with the archives of small files; no mirror answers."""
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in small_files.items():
        monkeypatch.setitem(data.FILES, name, hashlib.sha256(content).hexdigest())
        (raw / f"{name}.gz").write_bytes(gzip.compress(content))
    monkeypatch.setattr(MNIST, "resources", [(path.name, hashlib.md5(path.read_bytes()).hexdigest())
                                             for path in raw.iterdir()])
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "data"))
    return raw


@pytest.fixture
def mirror(raw, monkeypatch):
    """A folder with the archives, which a mirror sends; MNIST's own has none."""
    folder = raw.rename(raw.parents[2] / "mirror")
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield folder
        server.shutdown()


def contents(folder):
    return {path.name: path.is_file() and path.read_bytes() for path in folder.iterdir()}


def test_the_folder_is_where_mnist_root_says(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for value, folder in (("", data.ROOT / "data"), ("my", data.ROOT / "my"), ("~/my", tmp_path / "my")):
        monkeypatch.setenv("MNIST_ROOT", value)
        assert data.root() == folder


def test_archives_or_files_are_enough_and_are_what_torchvision_loads(raw):
    before = contents(raw)
    archived = data.load()
    assert contents(raw) == before and data.at_hand()   # as in a folder that cannot be written to
    MNIST(data.root(), download=True)   # unpacks the archives
    for train, *sets in zip((True, False), archived, data.load(), strict=True):
        theirs = MNIST(data.root(), train)
        for images, labels in sets:
            assert torch.equal(images, theirs.data) and torch.equal(labels.long(), theirs.targets)


@pytest.mark.parametrize("name, damage", [
    (LABELS, lambda path: path.write_bytes(path.with_name(TEST_LABELS).read_bytes())),   # of another set
    (LABELS, lambda path: (path.unlink(), path.mkdir())),
    (f"{LABELS}.gz", lambda path: path.write_bytes(path.read_bytes()[:-9]))])
def test_what_is_not_mnist_is_an_error_that_says_what_to_do(raw, name, damage):
    if name == LABELS:
        MNIST(data.root(), download=True)
    damage(raw / name)
    before = contents(raw)
    with pytest.raises(data.DataError) as error:
        data.at_hand()   # it does not pass for "no MNIST"
    assert str(error.value).startswith(f"{raw} does not hold MNIST, as the digest of {name} says; nothing was"
                                       " touched: delete the folder")
    assert contents(raw) == before


def test_what_is_missing_is_fetched_whole_and_in_silence(mirror, raw, capfd):
    assert data.at_hand() and capfd.readouterr() == ("", "")
    fetched = contents(raw)
    assert len(fetched) == 8 and contents(mirror).items() <= fetched.items()
    assert [path.name for path in raw.parent.iterdir()] == ["raw"]
    (raw / f"{LABELS}.gz").write_bytes(b"somebody else's")
    (raw / TEST_LABELS).unlink(), (raw / f"{TEST_LABELS}.gz").unlink()
    assert data.at_hand() and contents(raw) == {**fetched, f"{LABELS}.gz": b"somebody else's"}


def test_what_cannot_be_fetched_is_said_with_its_reason(mirror, raw, monkeypatch):
    monkeypatch.setattr(data, "WAIT", 0.2)
    (mirror / f"{LABELS}.gz").write_bytes(b"<html>log in first</html>")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for address, reason in (("http://127.0.0.1:9/", "refused"), (MNIST.mirrors[0] + "none/", "404"),
                                (f"http://127.0.0.1:{silent.getsockname()[1]}/", "timed out"),
                                (MNIST.mirrors[0], f"{LABELS}.gz.* corrupted")):
            monkeypatch.setattr(MNIST, "mirrors", [address])
            with pytest.raises(data.NoMnist, match=f"fetched .*{reason}.* belong into data/MNIST/raw$"):
                data.load()
            assert not data.at_hand() and not contents(raw) and socket.getdefaulttimeout() is None


def test_the_digits_sample_stands_in():
    sets = data.digits_sample()
    assert [tuple(images.shape) for images, _ in sets] == [(1437, 1, 28, 28), (360, 1, 28, 28)]
    assert all(0 <= images.min() < images.max() <= 1 for images, _ in sets)
    assert sets[1][1][:10].tolist() == [6, 5, 5, 7, 9, 9, 8, 4, 6, 8]   # always the same choice
