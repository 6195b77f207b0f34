"""MNIST on disk and from mirrors: every fault is provoked, on files a hundredth of MNIST's size."""

import gzip
import hashlib
import multiprocessing
import resource
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from torchvision.datasets import MNIST

import mnist
import utils

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.fixture
def raw(tmp_path, small_files, monkeypatch):
    """An empty folder for the small files, which are taken for MNIST; no mirror has them."""
    archives = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in small_files.items()}
    monkeypatch.setattr(mnist, "FILES", {name: hashlib.sha256(content).hexdigest() for name, content in small_files.items()})
    monkeypatch.setattr(MNIST, "resources", [(name, hashlib.md5(content).hexdigest()) for name, content in archives.items()])
    monkeypatch.setattr(MNIST, "mirrors", [])
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "data"))
    return tmp_path / "data" / "MNIST" / "raw"


@pytest.fixture
def filled(raw, small_files):
    """The same folder with the extracted files and the archives."""
    raw.mkdir(parents=True)
    for name, content in small_files.items():
        (raw / name).write_bytes(content)
        (raw / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
    return raw


def is_right(splits, small_files):
    images, labels = splits[0]
    return (images.shape, labels.shape) == ((600, 28, 28), (600,)) and labels.numpy().tobytes() == small_files[LABELS][8:] \
        and images.numpy().tobytes() == small_files[IMAGES][16:]


def holds(path, content):
    """A function, for where an assert compares long files itself, pytest takes hours to print how they differ."""
    return path.read_bytes() == content


def spoil(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# ---------------------------------------------------------------- on disk

def test_the_checksums_are_those_of_the_sets_that_torchvision_loads():
    if not mnist.at_hand():
        pytest.skip("no MNIST here")
    for train, (images, labels) in zip((True, False), mnist.load()):
        theirs = MNIST(mnist.root(), train=train)
        assert torch.equal(theirs.data, images) and torch.equal(theirs.targets, labels.long())


@pytest.mark.parametrize("left", ["*-ubyte", "*.gz"])
def test_extracted_files_or_archives_are_enough(filled, small_files, left, capsys):
    for path in set(filled.iterdir()) - set(filled.glob(left)):
        path.unlink()
    assert is_right(mnist.load(), small_files) and capsys.readouterr().out == ""
    assert len(list(filled.glob("*-ubyte"))) == 4   # for torchvision, and for the next time


@pytest.mark.parametrize("name", [IMAGES, LABELS])
@pytest.mark.parametrize("damage", [spoil, lambda path: path.write_bytes(path.read_bytes()[:100]), lambda path: path.write_bytes(b"")],
                         ids=["a byte", "truncated", "empty"])
def test_a_damaged_file_is_unpacked_again(filled, small_files, name, damage, capsys):
    damage(filled / name)
    assert is_right(mnist.load(), small_files)
    assert holds(filled / name, small_files[name])
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and name in said and "unpacked again" in said
    assert is_right(mnist.load(), small_files) and capsys.readouterr().out == ""


def test_labels_of_another_set_are_replaced(filled, small_files, capsys):
    (filled / LABELS).write_bytes((filled / "t10k-labels-idx1-ubyte").read_bytes())
    assert is_right(mnist.load(), small_files) and "unpacked again" in capsys.readouterr().out


def test_a_stale_processed_folder_is_not_looked_at(filled, small_files):
    processed = filled.parent / "processed"
    processed.mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(5, 28, 28, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64)), processed / name)
    assert is_right(mnist.load(), small_files)


def test_what_cannot_be_mended_is_an_error_that_says_what_to_do(filled):
    spoil(filled / IMAGES)
    archive = filled / f"{IMAGES}.gz"
    archive.write_bytes(archive.read_bytes()[:-9])
    with pytest.raises(mnist.DataError) as error:
        mnist.load()
    for part in (str(filled / IMAGES), str(archive), f"{archive.stat().st_size:,} bytes", mnist.FILES[IMAGES], "delete them", "can't be fetched"):
        assert part in str(error.value)
    with pytest.raises(mnist.DataError):   # and it does not pass for "no MNIST"
        utils.load_mnist()


def test_a_folder_that_cannot_be_written_is_good_enough_to_read(filled, small_files, monkeypatch):
    (filled / IMAGES).unlink()
    monkeypatch.setattr(mnist, "_keep", lambda content, path: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert is_right(mnist.load(), small_files)


def test_a_file_that_cannot_be_read(filled):
    (filled / LABELS).unlink()
    (filled / LABELS).mkdir()
    with pytest.raises(mnist.DataError, match=f"{LABELS} can't be read: Is a directory; mend that, or set MNIST_ROOT"):
        mnist.load()


def test_no_mnist_is_said_with_its_reason(raw, capsys):
    with pytest.raises(mnist.NoMnist, match="train-images-idx3-ubyte.gz can't be fetched"):
        mnist.load()
    assert utils.load_mnist().name == "digits sample"
    assert "no MNIST in data/, and train-images-idx3-ubyte.gz can't be fetched" in capsys.readouterr().out


# ---------------------------------------------------------------- from mirrors

@pytest.fixture
def mirror(small_files, monkeypatch):
    """Start mirrors, on this machine, that behave as asked; answers with the paths they were asked for."""
    servers, asked = [], []

    def start(*behaviours):
        for behaviour in behaviours:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self, behaviour=behaviour):
                    asked.append((behaviour, self.path))
                    content = gzip.compress(small_files[self.path[1:-3]], mtime=0)
                    if behaviour == "403":
                        self.send_error(403)
                    elif behaviour == "hangs":
                        time.sleep(1.5)
                    elif behaviour == "other bytes":
                        self.reply(len(content), b"x" * len(content))
                    elif behaviour == "cuts":
                        self.reply(len(content), content[:100])
                    elif behaviour == "drips":
                        self.reply(len(content), b"")
                        for i in range(100):
                            self.wfile.write(b"x")
                            time.sleep(0.1)
                    else:
                        self.reply(len(content), content)

                def reply(self, length, content):
                    self.send_response(200)
                    self.send_header("Content-Length", str(length))
                    self.end_headers()
                    self.wfile.write(content)

                def log_message(self, *arguments):
                    pass
            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            server.daemon_threads = True
            server.handle_error = lambda *arguments: None   # a client that hangs up
            threading.Thread(target=server.serve_forever, daemon=True).start()
            servers.append(server)
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/" for server in servers])
        return asked
    for variable in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(mnist, "WAIT", 0.5)
    monkeypatch.setattr(mnist, "DEADLINE", 1)
    yield start
    for server in servers:
        server.shutdown()


@pytest.mark.parametrize("behaviour", ["403", "hangs", "other bytes", "cuts", "drips"])
def test_a_bad_mirror_gives_way_to_the_next(raw, small_files, mirror, behaviour, capsys):
    asked = mirror(behaviour, "good")
    assert is_right(mnist.load(), small_files)
    assert len(asked) == 8 and len(list(raw.iterdir())) == 8
    assert capsys.readouterr().out.count("MNIST: fetched ") == 4
    mnist.load()
    assert len(asked) == 8


@pytest.mark.parametrize("behaviour, said", [("403", "HTTP Error 403"), ("hangs", "timed out"), ("other bytes", "bytes that are not MNIST's"),
                                             ("cuts", "100 bytes that are not MNIST's|IncompleteRead"), ("drips", "not done after 1 seconds")])
def test_bad_mirrors_leave_nothing_behind(raw, mirror, behaviour, said):
    mirror(behaviour)
    with pytest.raises(mnist.NoMnist, match=said):
        mnist.load()
    assert not raw.exists()


def test_a_damaged_archive_is_fetched_again(filled, small_files, mirror, capsys):
    mirror("good")
    spoil(filled / IMAGES), spoil(filled / f"{IMAGES}.gz")
    assert is_right(mnist.load(), small_files) and "fetched train-images-idx3-ubyte.gz" in capsys.readouterr().out
    assert holds(filled / IMAGES, small_files[IMAGES])


def test_nowhere_to_keep_it(raw, mirror):
    mirror("good")
    raw.parents[1].touch()   # a file where the folder should be
    with pytest.raises(mnist.DataError, match="train-images-idx3-ubyte.gz can't be written: .*set MNIST_ROOT"):
        mnist.load()


def in_a_process(function):
    """Run `function` in a process of its own, which sees all that is patched here; return the process."""
    process = multiprocessing.get_context("fork").Process(target=function)
    process.start()
    return process


def test_a_full_disk(raw, mirror, small_files):
    mirror("good")

    def load():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))   # the archive of the images is larger
        with pytest.raises(mnist.DataError, match="can't be written: File too large; make room"):
            mnist.load()
    process = in_a_process(load)
    process.join(60)
    assert process.exitcode == 0 and not list(raw.iterdir())


def test_two_processes_at_once(raw, mirror, small_files):
    mirror("good")
    processes = [in_a_process(mnist.load) for _ in range(2)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0] and len(list(raw.iterdir())) == 8
    assert is_right(mnist.load(), small_files)
