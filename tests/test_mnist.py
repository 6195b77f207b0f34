"""MNIST on disk and from mirrors: every fault is provoked, on files a hundredth of MNIST's size."""

import gzip
import hashlib
import multiprocessing
import os
import resource
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torchvision.datasets import MNIST

from lab import mnist

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.fixture
def raw(tmp_path, small_files, monkeypatch):
    """An empty folder for the small files, which are taken for MNIST; no mirror answers."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in small_files.items()}
    monkeypatch.setattr(mnist, "FILES", sums)
    monkeypatch.setattr(mnist, "MIRRORS", ["http://127.0.0.1:9/"])
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(urllib.request, "_opener", None)   # it remembers the proxies of the first request
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "data"))
    return tmp_path / "data" / "MNIST" / "raw"


@pytest.fixture
def filled(raw, small_files):
    """The same folder with the extracted files and the archives."""
    fill(raw, small_files)
    return raw


def fill(raw, small_files):
    raw.mkdir(parents=True)
    for name, content in small_files.items():
        (raw / name).write_bytes(content)
        (raw / f"{name}.gz").write_bytes(gzip.compress(content))


def is_right(sets, small_files):
    """Compare here, not in an assert: pytest takes long to print how long tensors differ."""
    arrays = [array for images_and_labels in sets for array in images_and_labels]
    return [tuple(array.shape) for array in arrays] == [(600, 28, 28), (600,), (200, 28, 28), (200,)] and all(
        content.endswith(array.numpy().tobytes()) for array, content in
        zip(arrays, small_files.values(), strict=True))


def spoil(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def empty(path):
    path.write_bytes(b"")


def in_a_process(function):
    """Run `function` in a process of its own, which sees all that is patched here; return the process."""
    process = multiprocessing.get_context("fork").Process(target=function)
    process.start()
    return process


def ends_well(*processes):
    for process in processes:
        process.join(60)
    return all(process.exitcode == 0 for process in processes)


# ---------------------------------------------------------------- on disk

def test_the_folder_is_where_mnist_root_says(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MNIST_ROOT", raising=False)
    assert mnist.root() == mnist.ROOT / "data"
    for value, folder in (("", mnist.ROOT / "data"), ("my", mnist.ROOT / "my"), ("~/my", tmp_path / "my")):
        monkeypatch.setenv("MNIST_ROOT", value)
        assert mnist.root() == folder


def test_mnist_is_what_torchvision_loads():
    if not mnist.at_hand():
        pytest.skip("no MNIST here")
    for train, (images, labels) in zip((True, False), mnist.load(), strict=True):
        theirs = MNIST(mnist.root(), train=train, download=True)
        assert torch.equal(theirs.data, images) and torch.equal(theirs.targets, labels.long())


@pytest.mark.parametrize("left", ["*-ubyte", "*.gz"])
def test_extracted_files_or_archives_are_enough(filled, small_files, left, capsys):
    for path in set(filled.iterdir()) - set(filled.glob(left)):
        path.unlink()
    assert mnist.at_hand() and is_right(mnist.load(), small_files) and capsys.readouterr().out == ""
    assert len(list(filled.glob("*-ubyte"))) == 4   # for torchvision, and for the next time


@pytest.mark.parametrize("name", [IMAGES, LABELS])
@pytest.mark.parametrize("damage", [spoil, cut, empty])
def test_a_damaged_file_is_unpacked_again(filled, small_files, name, damage, capsys):
    damage(filled / name)
    assert is_right(mnist.load(), small_files)
    assert capsys.readouterr().out == f"MNIST: {name} was damaged, unpacked again\n"
    assert is_right(mnist.load(), small_files) and capsys.readouterr().out == ""


def test_labels_of_another_set_are_replaced(filled, small_files, capsys):
    (filled / LABELS).write_bytes((filled / "t10k-labels-idx1-ubyte").read_bytes())
    assert is_right(mnist.load(), small_files) and "unpacked again" in capsys.readouterr().out


def test_a_stale_processed_folder_is_not_looked_at(filled, small_files):
    stale = (torch.zeros(5, 28, 28, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64))
    (filled.parent / "processed").mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save(stale, filled.parent / "processed" / name)
    assert is_right(mnist.load(), small_files)


@pytest.mark.parametrize("damage", [spoil, cut, empty])
def test_what_cannot_be_mended_is_an_error_that_says_what_to_do(filled, damage):
    spoil(filled / IMAGES)
    damage(filled / f"{IMAGES}.gz")
    with pytest.raises(mnist.DataError) as error:
        mnist.at_hand()   # it does not pass for "no MNIST"
    for part in (f"{filled / IMAGES}: 470,416 bytes that are not MNIST's", f"{filled / IMAGES}.gz: ",
                 "Connection refused", "delete what is damaged and try again with a network"):
        assert part in str(error.value)


def test_a_file_that_cannot_be_read(filled, small_files):
    (filled / LABELS).unlink()
    (filled / LABELS).mkdir()
    assert is_right(mnist.load(), small_files)   # from the archive
    (filled / f"{LABELS}.gz").unlink()
    with pytest.raises(mnist.DataError, match=f"{LABELS}: .*Is a directory.*; delete what is damaged"):
        mnist.load()


@pytest.mark.parametrize("left", ["*-ubyte", "*.gz"])
def test_a_folder_that_cannot_be_written_is_good_enough_to_read(raw, small_files, left, monkeypatch):
    with tempfile.TemporaryDirectory() as folder:   # not tmp_path, where only its owner may pass
        raw = Path(folder, "MNIST", "raw")
        fill(raw, small_files)
        for path in set(raw.iterdir()) - set(raw.glob(left)):
            path.unlink()
        os.chmod(folder, 0o755), os.chmod(raw, 0o555)
        monkeypatch.setenv("MNIST_ROOT", folder)

        def load():
            if os.geteuid() == 0:   # whom no mode keeps from writing
                os.seteuid(65534)
            with pytest.raises(PermissionError):
                (raw / "new").touch()
            assert is_right(mnist.load(), small_files)
        assert ends_well(in_a_process(load)) and len(list(raw.iterdir())) == 4
        os.chmod(raw, 0o755)


def test_no_mnist_is_said_with_its_reason(raw):
    with pytest.raises(mnist.NoMnist, match=f"{IMAGES}.gz can't be fetched .*127.0.0.1.*Connection refused"):
        mnist.load()
    assert not mnist.at_hand() and not raw.exists()


def test_the_digits_sample_stands_in():
    sets = mnist.digits_sample()
    assert [tuple(images.shape) for images, _ in sets] == [(1437, 1, 28, 28), (360, 1, 28, 28)]
    assert all(0 <= images.min() < images.max() <= 1 for images, _ in sets)
    assert sets[1][1][:10].tolist() == [6, 5, 5, 7, 9, 9, 8, 4, 6, 8]   # always the same choice


# ---------------------------------------------------------------- from mirrors

@pytest.fixture
def mirrors(raw, small_files, monkeypatch):
    """A function that sets local mirrors, which behave as told; returns the list of what they are asked."""
    asked, pair = [], threading.Barrier(2, timeout=10)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            behaviour, file = self.path[1:].split("/")
            asked.append(file)
            content = gzip.compress(small_files[file.removesuffix(".gz")])
            if behaviour == "403":
                return self.send_error(403)
            if behaviour == "hangs":
                return time.sleep(2)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if behaviour == "drips":
                for _ in range(100):
                    self.wfile.write(b"x")
                    time.sleep(0.1)
            if behaviour == "pairs":   # answers two at the same moment
                pair.wait()
            self.wfile.write({"cuts": content[:100], "lies": b"x" * len(content)}.get(behaviour, content))

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *arguments: None   # a client that hangs up
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr(mnist, "WAIT", 1)
    monkeypatch.setattr(mnist, "DEADLINE", 1)

    def behave(*behaviours):
        here = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(mnist, "MIRRORS", [f"{here}/{behaviour}/" for behaviour in behaviours])
        return asked
    yield behave
    server.shutdown()


def test_what_is_missing_is_fetched_once(raw, small_files, mirrors, capsys):
    asked = mirrors("works")
    assert is_right(mnist.load(), small_files)
    assert capsys.readouterr().out == "".join(f"MNIST: {name} fetched\n" for name in small_files)
    assert is_right(mnist.load(), small_files) and len(asked) == 4 and len(list(raw.iterdir())) == 8


@pytest.mark.parametrize("behaviour, said", [
    ("403", "HTTP Error 403"), ("hangs", "timed out"), ("drips", "not done after 1 seconds"),
    ("cuts", "end-of-stream|IncompleteRead"), ("lies", "Not a gzipped file")])
def test_a_bad_mirror_gives_way_to_the_next(filled, small_files, mirrors, behaviour, said):
    for path in filled.glob(f"{LABELS}*"):
        path.unlink()
    mirrors(behaviour)
    with pytest.raises(mnist.NoMnist, match=f"/{behaviour}/{LABELS}.gz: .*({said})"):
        mnist.load()
    assert len(list(filled.iterdir())) == 6   # nothing is left behind
    mirrors(behaviour, "works")
    assert is_right(mnist.load(), small_files)


def test_a_damaged_archive_is_fetched_again(filled, small_files, mirrors, capsys):
    mirrors("works")
    spoil(filled / IMAGES), spoil(filled / f"{IMAGES}.gz")
    assert is_right(mnist.load(), small_files)
    assert capsys.readouterr().out == f"MNIST: {IMAGES} was damaged, fetched\n"
    (filled / IMAGES).unlink()
    assert is_right(mnist.load(), small_files) and capsys.readouterr().out == ""


def test_nowhere_to_keep_it(raw, mirrors):
    mirrors("works")
    raw.parents[1].touch()   # a file where the folder should be
    with pytest.raises(mnist.DataError, match=f"{IMAGES} can't be written: .*; make room, or set MNIST_ROOT"):
        mnist.load()


def test_a_full_disk(raw, mirrors):
    mirrors("works")

    def load():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))   # the archive of the images is larger
        with pytest.raises(mnist.DataError, match=f"{IMAGES} can't be written: File too large; make room"):
            mnist.load()
    assert ends_well(in_a_process(load)) and not list(raw.iterdir())


def test_two_processes_at_once(raw, small_files, mirrors):
    asked = mirrors("pairs")

    def load():
        assert is_right(mnist.load(), small_files)
    assert ends_well(in_a_process(load), in_a_process(load))
    assert len(asked) == len(list(raw.iterdir())) == 8 and is_right(mnist.load(), small_files)
