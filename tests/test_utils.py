"""Data, augmentation, training and records, on small data."""

import sys

import pytest
import torch
from torch import nn
from torch.optim import SGD, lr_scheduler
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

import utils
from model import DigitNet
from utils import (MEAN, STD, Augment, Claim, Data, Epoch, History, Run, Split, epoch_line, evaluate, fit,
                   keep_record, load_mnist, read_record, results_table, verdict)


# ---------------------------------------------------------------- data

def test_digits_sample(sample):
    assert sample.name == "digits sample"
    assert sample.train.images.shape == (1437, 1, 28, 28) and sample.test.images.shape == (360, 1, 28, 28)
    assert sample.train.labels.dtype == torch.int64 and sample.train.labels.unique().tolist() == list(range(10))
    pixels = sample.train.images * STD + MEAN
    assert pixels.min() > -1e-6 and pixels.max() < 1 + 1e-6


def test_no_mnist_is_said(no_mnist, capsys):
    assert load_mnist(validation=True).validation is not None
    printed = capsys.readouterr().out
    assert printed.startswith("digits sample: no MNIST") and "says nothing about MNIST" in printed
    assert "digits sample: 1,198 training, 239 validation, 360 test images" in printed


def test_validation_split_is_fixed_and_apart(sample):
    a, b = (utils._split(sample.train, 200) for _ in range(2))
    assert torch.equal(a[1].labels, b[1].labels) and [len(part.labels) for part in a] == [1237, 200]
    everything = torch.cat([part.images for part in a]).flatten(1).sum(1).sort().values
    assert torch.allclose(everything, sample.train.images.flatten(1).sum(1).sort().values)


@pytest.fixture(scope="session")
def mnist():
    if not utils.mnist.at_hand():
        pytest.skip("no MNIST here")
    return load_mnist(validation=True)


def test_mnist(mnist):
    assert mnist.name == "MNIST"
    assert [len(split.labels) for split in (mnist.train, mnist.validation, mnist.test)] == [50_000, 10_000, 10_000]
    assert mnist.held_out is mnist.validation


def test_mean_and_std_are_those_of_the_training_images(mnist):
    pixels = torch.cat([mnist.train.images, mnist.validation.images]) * STD + MEAN
    assert round(pixels.mean().item(), 4) == MEAN and round(pixels.std().item(), 4) == STD


# ---------------------------------------------------------------- augmentation

def test_nothing_to_change_changes_nothing(sample):
    images = sample.test.images[:50]
    assert Augment()(images) is images
    still = Augment(rotation=1e-9)(images)
    assert torch.allclose(still, images, atol=1e-4)


def test_every_image_has_an_angle_of_its_own(sample):
    copies = sample.test.images[:1].repeat(20, 1, 1, 1)
    turned = Augment(rotation=30)(copies)
    assert len(turned.flatten(1).unique(dim=0)) == 20
    assert turned.shape == copies.shape and torch.equal(copies[0], sample.test.images[0])


def fixed(monkeypatch, value):
    """Let every uniform number that Augment draws be `value`."""
    monkeypatch.setattr(utils.torch, "rand", lambda *size, **kwargs: torch.full(size, value))


@pytest.mark.parametrize("angle", [7, -15, 35])
def test_rotation_is_torchvisions(sample, monkeypatch, angle):
    fixed(monkeypatch, 1.0 if angle > 0 else 0.0)   # the largest turn to one side or the other
    images = sample.test.images[:5]
    ours = Augment(rotation=abs(angle))(images) * STD + MEAN
    theirs = torch.stack([TF.rotate(i * STD + MEAN, angle, InterpolationMode.BILINEAR) for i in images])
    assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("augment, translate, scale", [
    (Augment(shift=2), (-2, -2), 1), (Augment(scale=0.2), (0, 0), 1.2), (Augment(scale=0.2, shift=3), (-3, -3), 1.2)])
def test_shift_and_scale_are_torchvisions(sample, monkeypatch, augment, translate, scale):
    fixed(monkeypatch, 1.0)
    images = sample.test.images[:5]
    theirs = TF.affine(images * STD + MEAN, 0, translate, scale, 0, InterpolationMode.BILINEAR)
    assert torch.allclose(augment(images) * STD + MEAN, theirs, atol=1e-4)


def test_crop_is_torchvisions_but_for_the_rim(sample):
    images = sample.test.images[:5]
    ours = Augment(crop=22, crop_chance=1)(images)
    theirs = TF.resize(TF.center_crop(images, 22), 28, InterpolationMode.BILINEAR)
    assert torch.allclose(ours[..., 1:-1, 1:-1], theirs[..., 1:-1, 1:-1], atol=1e-4)


def test_crop_chance(sample):
    images = sample.test.images[:1].repeat(2000, 1, 1, 1)
    changed = (Augment(crop=22, crop_chance=0.1)(images) - images).abs().amax((1, 2, 3)) > 0.01
    assert 0.07 < changed.float().mean() < 0.13


@pytest.mark.parametrize("wrong", [{"rotation": -1}, {"rotation": 181}, {"shift": 29}, {"scale": 1}, {"crop": 30}, {"crop_chance": 2}])
def test_augment_out_of_range(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be between"):
        Augment(**wrong)


# ---------------------------------------------------------------- training

def train(net, data, scheduler=None, epochs=3, lr=0.05, **kwargs):
    torch.manual_seed(1)
    optimizer = SGD(net.parameters(), lr=lr, momentum=0.9)
    return fit(net, data, optimizer, scheduler and scheduler(optimizer), epochs=epochs, batch_size=32, **kwargs)


def test_fit_learns(net, sample, capsys):
    history = train(net, sample, epochs=8)
    assert history.last.test_accuracy > 85 and history.last.train_loss < history[0].train_loss / 3
    lines = capsys.readouterr().out.splitlines()
    assert lines == [epoch_line("digits sample", e, 8) for e in history]


def test_zero_rate_learns_nothing(net, tiny):
    weight = net.layers[0].weight.clone()
    train(net, tiny, lr=0)
    assert torch.equal(net.layers[0].weight, weight)


def test_same_seed_same_history(net, tiny):
    import copy
    with_everything = dict(augment=Augment(rotation=10, shift=2), scheduler=lambda o: lr_scheduler.StepLR(o, 1))
    a, b = (train(copy.deepcopy(net), tiny, **with_everything) for _ in range(2))
    assert [e._replace(seconds=0) for e in a] == [e._replace(seconds=0) for e in b]


def test_scores_are_those_of_plain_pytorch(net, sample):
    score = evaluate(net, sample.test, batch_size=50)
    net.eval()
    out = torch.stack([net(image.unsqueeze(0))[0] for image in sample.test.images])
    assert score.loss == pytest.approx(torch.nn.functional.nll_loss(out, sample.test.labels).item(), rel=1e-4)
    assert score.accuracy == pytest.approx(100 * (out.argmax(1) == sample.test.labels).double().mean().item())


def test_an_epoch_sees_every_image_once_with_its_label(tiny):
    numbered = Split(torch.arange(320.0).view(-1, 1, 1, 1).expand(-1, 1, 28, 28), torch.arange(320))
    images, labels = (torch.cat(parts) for parts in zip(*utils._chunks(numbered, 64, None)))
    assert torch.equal(images[:, 0, 0, 0].long(), labels) and labels.sort().values.tolist() == list(range(320))
    assert labels.tolist() != list(range(320))


def test_scores_on_the_validation_split_and_says_so(net, tiny, capsys):
    apart = tiny._replace(validation=Split(*(t[:50] for t in tiny.test)))
    history = train(net, apart, epochs=1)
    assert history.last.test_accuracy == evaluate(net, apart.validation).accuracy
    assert " validation " in capsys.readouterr().out


def rates(scheduler, net, data, epochs=6):
    return [e.lr for e in train(net, data, scheduler, epochs)]


def test_scheduler_per_epoch(net, tiny):
    assert rates(lambda o: lr_scheduler.StepLR(o, 2, 0.1), net, tiny) == pytest.approx([.05, .05, .005, .005, .0005, .0005])


def test_scheduler_per_batch(net, tiny):
    made = []
    def one_cycle(optimizer):
        made.append(lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=60))
        return made[0]
    rates(one_cycle, net, tiny)
    assert made[0].last_epoch == 60   # 6 epochs of 10 batches


@pytest.mark.parametrize("mode", ["max", "min"])
def test_scheduler_on_a_metric(net, tiny, monkeypatch, mode):
    """With scores that never improve after the first epoch and a patience of 1, the rate halves in epoch 4 and 6."""
    monkeypatch.setattr(utils, "evaluate", lambda *args, **kwargs: utils.Score(1.0, 50.0))
    plateau = lambda o: lr_scheduler.ReduceLROnPlateau(o, mode, factor=0.5, patience=1)
    assert rates(plateau, net, tiny) == pytest.approx([.05, .05, .05, .025, .025, .0125])


def test_plateau_watches_accuracy_in_mode_max(net, tiny, monkeypatch):
    scores = iter([utils.Score(1 / i, 50.0 + i) for i in range(1, 7)])   # both improve
    monkeypatch.setattr(utils, "evaluate", lambda *args, **kwargs: next(scores))
    assert rates(lambda o: lr_scheduler.ReduceLROnPlateau(o, "max", factor=0.5, patience=0), net, tiny) == [.05] * 6


@pytest.mark.skipif(not utils.half_precision(torch.device("cpu"))._enabled, reason="this processor does not compute in bfloat16")
def test_autocast_trains_in_bfloat16(net, sample):
    with utils.half_precision(torch.device("cpu")):
        assert net.layers[0](sample.test.images[:2]).dtype == torch.bfloat16
    assert train(net, sample, epochs=4, autocast=True).last.test_accuracy > 80


@pytest.mark.parametrize("dtype", [torch.float16, None])
def test_autocast_in_float16_and_where_there_is_none(net, sample, monkeypatch, dtype):
    """float16 is what older GPUs get; it needs the loss scaled, or small gradients vanish."""
    monkeypatch.setattr(utils, "half_type", lambda device: dtype)
    with utils.half_precision(torch.device("cpu")):
        assert net.layers[0](sample.test.images[:2]).dtype == (dtype or torch.float32)
    assert train(net, sample, epochs=4, autocast=True).last.test_accuracy > 80


@pytest.mark.parametrize("device, native, dtype", [
    ("cuda", True, torch.bfloat16), ("cuda", False, torch.float16), ("mps", False, None)])
def test_half_type_is_what_the_device_computes_in(monkeypatch, device, native, dtype):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert utils.half_type(torch.device(device)) == dtype


@pytest.mark.parametrize("platform", [sys.platform, "win32", "darwin"])
def test_keep_memory_changes_no_number(net, tiny, monkeypatch, platform):
    import copy
    twin = copy.deepcopy(net)
    before = train(net, tiny, epochs=1)
    monkeypatch.setattr(sys, "platform", platform)
    after = train(twin, tiny, epochs=1)
    assert before.last._replace(seconds=0) == after.last._replace(seconds=0)


def test_without_a_held_out_split_nothing_is_scored(net, tiny):
    history = train(net, tiny._replace(test=None), epochs=1)
    assert history.last.test_accuracy != history.last.test_accuracy and history.last.train_accuracy > 0   # nan


def test_quiet(net, tiny, capsys):
    train(net, tiny, quiet=True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("fault", [None, RuntimeError("out of memory"), AssertionError("no CUDA")])
def test_recording_graphs_leaves_the_network_as_it_was(net, tiny, monkeypatch, capsys, fault):
    """Replayed or, where recording fails, not: the function is the network's; its trial runs leave no trace."""
    def record(module, inputs):
        module(*inputs)
        if fault:
            raise fault
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    forward = utils._graphed(net, tiny.train.images[:32], autocast=False)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert (forward is net) == bool(fault) == ("no CUDA graphs" in capsys.readouterr().out)
    net.eval()
    for count in (32, 7):
        assert torch.equal(forward(tiny.test.images[:count]), net(tiny.test.images[:count]))


def test_graphs_change_nothing_on_the_cpu(net, tiny):
    import copy
    a, b = (train(copy.deepcopy(net), tiny, graphs=graphs) for graphs in (False, True))
    assert [e._replace(seconds=0) for e in a] == [e._replace(seconds=0) for e in b]


def test_best_and_last_are_apart():
    rows = [Epoch(i, 0, 0, 0, accuracy, 0, 0) for i, accuracy in enumerate([90., 95., 95., 93.], 1)]
    history = History("MNIST", rows)
    assert history.best.epoch == 2 and history.last.epoch == 4


def test_a_loss_that_is_no_number_stops_the_training(net, tiny):
    batches = []

    class Breaking(torch.nn.Module):
        def forward(self, x):
            batches.append(len(x))
            return net(x) * (float("nan") if self.training and len(batches) > 14 else 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.25)
    breaking = Breaking()
    breaking.net = net
    with pytest.raises(FloatingPointError, match="^epoch 2, batch 3 of 10: the loss is nan at a learning rate of 0.25"):
        fit(breaking, tiny, optimizer, epochs=3, batch_size=32, quiet=True)   # call 1 is the check, 11 the score of epoch 1


def test_a_rate_far_too_high_is_named(net, tiny):
    with pytest.raises(FloatingPointError, match="the loss is (nan|inf) at a learning rate of 1e.30; a lower one may do"):
        fit(net, tiny, torch.optim.SGD(net.parameters(), lr=1e30), epochs=3, batch_size=32, quiet=True)


def _optimizer(net):
    return torch.optim.SGD(net.parameters(), lr=0.1)


@pytest.mark.parametrize("change, message", [
    (lambda net, data: dict(epochs=0), "epochs must be at least 1, got 0"), (lambda net, data: dict(epochs=-3), "got -3"),
    (lambda net, data: dict(batch_size=321), "batch_size must be between 1 and the 320 training images, got 321"),
    (lambda net, data: dict(batch_size=0), "got 0"),
    (lambda net, data: dict(data=data._replace(train=Split(*(t[:0] for t in data.train)))), "an empty split: 0 training images, 100"),
    (lambda net, data: dict(data=data._replace(test=Split(*(t[:0] for t in data.test)))), "an empty split: 320 training images, 0"),
    (lambda net, data: dict(optimizer=_optimizer(torch.nn.Linear(2, 2))), "the optimizer is of another network"),
    (lambda net, data: dict(scheduler=torch.optim.lr_scheduler.StepLR(_optimizer(net), 1)), "the scheduler is of another optimizer"),
    (lambda net, data: dict(resume=True), "resume=True needs a checkpoint_file"),
    (lambda net, data: dict(data=data._replace(train=data.train._replace(labels=data.train.labels + 3))), "10 outputs, the labels go up to 12")])
def test_arguments_that_do_not_fit_together(net, tiny, change, message, capsys):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    arguments = {"data": tiny, "optimizer": _optimizer(net), "epochs": 1, "batch_size": 32, **change(net, tiny)}
    stream = torch.get_rng_state()
    with pytest.raises(ValueError, match=message):
        fit(net, **arguments)
    assert capsys.readouterr().out == "" and torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


# ---------------------------------------------------------------- records

@pytest.fixture
def run(net):
    rows = [Epoch(i, 0.5, 80.0, 0.4, accuracy, 0.01, 1.0) for i, accuracy in enumerate([90., 95.], 1)]
    return Run(net, History("MNIST", rows), Claim("5,000", 91.0, 94.0), target=94.5)


@pytest.fixture
def record(run, tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(utils, "RESULTS", tmp_path)
    monkeypatch.setenv("RECORD_DIR", str(tmp_path))
    return keep_record("9_test", tiny._replace(name="MNIST"), 0, [run], extra=1.5)


def test_record_round_trips(record, tmp_path):
    assert read_record(tmp_path / "9_test.json") == record
    assert utils.load_history("9_test", "DigitNet") == utils.load_history(record, "DigitNet")
    assert record["runs"][0]["best"]["epoch"] == 2 and record["measures"] == {"extra": 1.5}
    lines = (tmp_path / "9_test.json").read_text().splitlines()
    assert sum(line.startswith('    { "epoch"') for line in lines) == 2   # one epoch a line
    assert [path.name for path in tmp_path.iterdir()] == ["9_test.json"]


@pytest.mark.parametrize("old, new, message", [
    ('"last": { "epoch": 2,', '"last": { "epoch": 1,', "line 7: the run DigitNet has a last epoch that is not the last"),
    ('"test_accuracy": 95.0', '"test_accuracy": 95.1', "line 7: the run DigitNet has a best epoch that is not the best"),
    ('{ "epoch": 2, "train_loss": 0.5', '{ "epoch": 2, "train_loss": NaN', "line 7: the run DigitNet has"),
    ('    { "epoch": 1', '    { "epoch": 3', "line 7: the run DigitNet has no whole row of epochs"),
    ('"seconds": 2,', '"seconds": 20,', "line 7: the run DigitNet has seconds that are not the sum"),
    ('"epochs": [', '"Epochs": [', "line 1: this is no record .KeyError: 'epochs'"),
    ('"target": 94.5', '"target": 94.5 94', r"line \d+: Expecting ',' delimiter; the file is cut off or was edited")])
def test_a_record_that_does_not_agree_with_itself_is_refused(record, tmp_path, old, new, message):
    path = tmp_path / "9_test.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(utils.RecordError, match="9_test.json, " + message):
        read_record(path)


def test_half_a_record_is_refused(record, tmp_path):
    path = tmp_path / "9_test.json"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:15]))
    with pytest.raises(utils.RecordError, match="9_test.json, line 15: .*; the file is cut off or was edited"):
        read_record(path)


def test_without_run_py_records_are_read_only(record, run, tiny, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("RECORD_DIR")
    before = (tmp_path / "9_test.json").read_bytes()
    worse = run._replace(history=History("MNIST", run.history[:1]))
    assert keep_record("9_test", tiny._replace(name="MNIST"), 0, [worse]) == record
    assert keep_record("9_test", tiny, 0, [worse])["dataset"] == "digits sample"
    keep_record("8_new", tiny._replace(name="MNIST"), 0, [run])
    assert (tmp_path / "9_test.json").read_bytes() == before and not (tmp_path / "8_new.json").exists()
    assert "not recorded" in capsys.readouterr().out


def test_only_run_py_gets_a_record_of_the_sample(run, tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(utils, "RESULTS", tmp_path / "results")
    keep_record("9_test", tiny, 0, [run])
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("RECORD_DIR", str(tmp_path))   # and keeps it out of results/: see test_run.py
    keep_record("9_test", tiny, 0, [run])
    assert [path.name for path in tmp_path.iterdir()] == ["9_test.json"]


# ---------------------------------------------------------------- runs to compare with

@pytest.fixture
def compared(record, run, tiny, monkeypatch):
    """A record with a run made once, and no run.py at work."""
    mnist = tiny._replace(name="MNIST")
    other = run._replace(label="without", claim=None, target=None, once=True)
    keep_record("9_test", mnist, 0, [run._replace(test_accuracy=94.321), other])
    monkeypatch.delenv("RECORD_DIR")
    return mnist


def test_once_takes_the_record(compared, run, capsys):
    history = utils.once("9_test", "without", compared, train=None)
    assert list(history) == list(run.history) and capsys.readouterr().out.count("MNIST  epoch") == 2


@pytest.mark.parametrize("name, dataset, environment, trained", [
    ("9_test", "digits sample", {}, True), ("8_new", "MNIST", {}, True), ("9_test", "MNIST", {"RECORD_DIR": "x"}, True),
    ("9_test", "MNIST", {"RECORD_DIR": "x", "SEED": "3"}, False), ("9_test", "MNIST", {"SEED": "3"}, False)])
def test_once_trains_for_a_new_record_and_the_sample(compared, name, dataset, environment, trained, monkeypatch):
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert (utils.once(name, "without", compared._replace(name=dataset), train=lambda: "trained") == "trained") == trained


def test_verdict_says_what_was_not_trained_again(compared, run, tmp_path, capsys):
    record = read_record(tmp_path / "9_test.json")
    runs = [run._replace(test_accuracy=94.3), run._replace(label="without", once=True)]
    verdict(record, compared, runs, tolerance=0.1)
    printed = capsys.readouterr().out
    assert "without: from the record, not trained again" in printed and "and test accuracy within 0.1" in printed
    with pytest.raises(AssertionError, match="DigitNet: test accuracy 93.00, by the record 94.22 to 94.42"):
        verdict(record, compared, [run._replace(test_accuracy=93.0)], tolerance=0.1)


def test_a_test_set_scored_once_is_in_the_table(compared, tmp_path):
    assert "test acc., scored once, %" in results_table(read_record(tmp_path / "9_test.json"))


def test_verdict_agrees(record, run, tiny, capsys):
    verdict(record, tiny._replace(name="MNIST"), [run], tolerance=0.1)
    assert "target 94.5 met, as recorded" in capsys.readouterr().out


@pytest.mark.parametrize("field, value, message", [
    ("parameters", 5_001, "parameters 5354, by the record 5001"), ("target", 94.0, "target 94.5, by the record 94.0"),
    ("best", {"test_accuracy": 95.2}, "best test accuracy 95.00, by the record 95.10 to 95.30"),
    ("epochs", [{"test_accuracy": 95.2}] * 2, "last test accuracy 95.00, by the record 95.10 to 95.30"),
    ("epochs", [{"test_accuracy": 95.0}] * 3, "epochs 2, by the record 3")])
def test_verdict_catches(record, run, tiny, field, value, message):
    record["runs"][0][field] = value
    with pytest.raises(AssertionError, match=message):
        verdict(record, tiny._replace(name="MNIST"), [run], tolerance=0.1)


def test_verdict_catches_a_target_that_is_no_longer_met(record, run, tiny):
    worse = run._replace(history=History("MNIST", [e._replace(test_accuracy=94.4) for e in run.history]))
    with pytest.raises(AssertionError, match="best test accuracy 94.4, but target 94.5 recorded as met"):
        verdict(record, tiny._replace(name="MNIST"), [worse], tolerance=1)
    record["environment"]["torch"] = "0.4"   # of other versions only the tolerance can be asked
    verdict(record, tiny._replace(name="MNIST"), [worse], tolerance=1)
    with pytest.raises(AssertionError, match="best test accuracy 94.40, by the record 94.50 to 95.50"):
        verdict(record, tiny._replace(name="MNIST"), [worse], tolerance=0.5)


def test_another_seed_is_not_compared_with_the_record(record, run, tiny, monkeypatch, capsys):
    monkeypatch.delenv("RECORD_DIR")
    assert keep_record("9_test", tiny._replace(name="MNIST"), 1, [run])["seed"] == 1
    assert "the record is of seed 0, this run of seed 1" in capsys.readouterr().out


def test_verdict_checks_nothing_on_the_sample(record, run, tiny, capsys):
    verdict(record, tiny, [run._replace(target=1.0)], tolerance=0)
    assert capsys.readouterr().out == "digits sample: no claim about MNIST is checked.\n"


def test_results_table(record, run, tiny):
    lines = results_table(record).splitlines()
    assert lines[0].split() == ["MNIST,", "seed", "0", "claimed", "measured"]
    assert lines[3].split("%")[1].split() == ["91.0", "80.00"] and "met" in lines[-1]
    record["dataset"] = "digits sample"
    assert "91.0" not in results_table(record) and "target" not in results_table(record)


# ---------------------------------------------------------------- several seeds

@pytest.fixture
def swept(tiny):
    """A sweep of three seeds of a small network over `tiny`, the digits sample."""
    return utils.sweep(_small, tiny, range(3), epochs=2, batch_size=32, target=20.0)


def _small():
    return DigitNet(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))


def test_sweep_scores_every_seed_once_at_its_end(tiny, monkeypatch, capsys):
    scored, predict = [], utils.predict
    monkeypatch.setattr(utils, "predict", lambda net, images, **kwargs: scored.append(images) or predict(net, images, **kwargs))
    swept = utils.sweep(_small, tiny, [3, 5], epochs=2, batch_size=32)
    assert [images is tiny.test.images for images in scored if len(images) > 1] == [True, True]   # fit checks the outputs with one image
    assert (swept.network, swept.parameters, swept.epochs, swept.scored_on) == ("DigitNet", 7850, 2, "test")
    assert list(swept.accuracies) == list(swept.seconds) == [3, 5] and capsys.readouterr().out == ""


def test_sweep_makes_choices_on_the_validation_split(tiny):
    apart = tiny._replace(validation=Split(*(t[:50] for t in tiny.test)), test=None)
    assert utils.sweep(_small, apart, [0], epochs=1, batch_size=32).scored_on == "validation"


def test_sweep_depends_on_the_seed_alone(tiny, swept):
    torch.manual_seed(7)
    assert utils.sweep(_small, tiny, [2], epochs=2, batch_size=32).accuracies[2] == swept.accuracies[2]


def test_one_cycle_ends_at_nothing(net):
    optimizer, scheduler = utils.one_cycle(net, images=320, epochs=2, batch_size=32)
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[0] == pytest.approx(0.004) and max(rates) == pytest.approx(0.02, rel=0.01) and rates[-1] < 0.001


@pytest.fixture
def swept_record(run, swept, tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(utils, "RESULTS", tmp_path)
    monkeypatch.setenv("RECORD_DIR", str(tmp_path))
    keep_record("9_test", tiny._replace(name="MNIST"), 0, [run], {"small": swept})
    return read_record(tmp_path / "9_test.json")


def test_a_recorded_sweep(swept_record, swept, tmp_path):
    row = swept_record["sweeps"]["small"]
    accuracies = list(swept.accuracies.values())
    assert (row["mean"], row["minimum"]) == (pytest.approx(sum(accuracies) / 3), min(accuracies))
    assert row["sd"] == pytest.approx(torch.tensor(accuracies).std().item(), rel=1e-4)
    assert sum('"0":' in line for line in (tmp_path / "9_test.json").read_text().splitlines()) == 3   # a line each
    header, line = utils.sweep_table(swept_record).splitlines()
    assert header.startswith("MNIST") and f"{row['mean']:.3f}" in line and "7,850" in line


def test_verdict_of_a_sweep(swept_record, run, swept, tiny, capsys):
    mnist = tiny._replace(name="MNIST")
    verdict(swept_record, mnist, [run], 0.1, {"small": swept})
    verdict(swept_record, mnist, [run], 0.1, {"small": swept._replace(accuracies={2: swept.accuracies[2]})})   # a test repeats one
    assert capsys.readouterr().out.count("mean of 3 seeds") == 2


@pytest.mark.parametrize("change, message", [
    (dict(epochs=3), "epochs 3, by the record 2"), (dict(target=30.0), "target 30.0, by the record 20.0"),
    (dict(accuracies={1: 0.0}), "seed 1: accuracy 0.00, by the record"), (dict(once=True, recipe="lr=1"), "recipe lr=1, by the record ")])
def test_verdict_catches_another_sweep(swept_record, run, swept, tiny, change, message):
    with pytest.raises(AssertionError, match=message):
        verdict(swept_record, tiny._replace(name="MNIST"), [run], 0.1, {"small": swept._replace(**change)})


def test_verdict_catches_a_sweep_that_is_not_in_the_record(swept_record, run, swept, tiny):
    with pytest.raises(AssertionError, match="smaller: not in the record"):
        verdict(swept_record, tiny._replace(name="MNIST"), [run], 0.1, {"smaller": swept})


# ---------------------------------------------------------------- sweeps made once

def _bar(data, **changed):
    settings = dict(seeds=[0, 1], epochs=1, batch_size=32, target=20.0, keep_weights=True, lr=0.01) | changed
    return utils.sweep_once("9_test", "small", _small, data, **settings)


@pytest.fixture
def renewing(tiny, monkeypatch, tmp_path):
    """run.py at work on a record, on what is taken for MNIST."""
    monkeypatch.setattr(utils, "RESULTS", tmp_path)
    monkeypatch.setenv("RECORD_DIR", str(tmp_path))
    return tiny._replace(name="MNIST")


def test_sweep_once_is_a_sweep(renewing, capsys):
    made = _bar(renewing)
    same = utils.sweep(_small, renewing, [0, 1], 1, 32, autocast=False, lr=0.01)
    assert (made.accuracies, made.wrong) == (same.accuracies, same.wrong) and made.once and not same.once
    assert capsys.readouterr().out == f"MNIST: small: {made.accuracies[0]:.2f} {made.accuracies[1]:.2f} %\n"


def test_the_misread_images_are_those_that_make_the_accuracy(renewing):
    made = _bar(renewing)
    assert all(made.accuracies[seed] == pytest.approx(100 - len(places)) for seed, places in made.wrong.items())   # of 100 images
    apart = renewing._replace(validation=renewing.test)
    assert _bar(apart).wrong == {} and _bar(apart).scored_on == "validation"


def test_a_renewal_that_is_cut_off_goes_on_where_it_was(renewing, monkeypatch, tmp_path):
    trained = []
    train_seed = utils._train_seed
    monkeypatch.setattr(utils, "_train_seed", lambda make, data, seed, *rest: trained.append(seed) or train_seed(make, data, seed, *rest))
    first = _bar(renewing, seeds=[0])
    again = _bar(renewing, seeds=[0, 1])
    assert trained == [0, 1] and again.accuracies[0] == first.accuracies[0] and again.seconds[0] == first.seconds[0]
    _bar(renewing, seeds=[0], lr=0.02), _bar(renewing, seeds=[0], epochs=2)
    assert trained == [0, 1, 0, 0]   # another recipe is another training
    assert (tmp_path / ".9_test.unfinished").exists()


def test_the_kept_weights_are_the_first_seeds(renewing, tmp_path):
    made = _bar(renewing)
    net = _small()
    net.load_state_dict(torch.load(tmp_path / "small.pt", weights_only=True))
    assert (utils.predict(net, renewing.test.images).argmax(1) != renewing.test.labels).nonzero().flatten().tolist() == made.wrong[0]


def test_a_recorded_sweep_is_not_made_again(renewing, run, monkeypatch, tmp_path, capsys):
    made = _bar(renewing)
    keep_record("9_test", renewing, 0, [run], {"small": made})
    monkeypatch.delenv("RECORD_DIR")
    monkeypatch.setattr(utils, "_train_seed", None)
    capsys.readouterr()
    assert _bar(renewing, seeds=[7]) == made
    assert _bar(renewing, seeds=[7], target=30.0).target == 30.0   # the notebook's, for the verdict to compare
    assert _bar(renewing._replace(validation=renewing.test), seeds=[7]).scored_on == "validation"
    for change in (dict(epochs=2), dict(lr=0.02), dict(batch_size=16), dict(augment=Augment(rotation=5))):
        with pytest.raises(TypeError, match="not callable"):   # another recipe is another training
            _bar(renewing, seeds=[7], **change)
    capsys.readouterr()
    verdict(read_record(tmp_path / "9_test.json"), renewing, [run], 0.1, {"small": made})
    printed = capsys.readouterr().out
    assert "small: from the record, not trained again, mean of 2 seeds" in printed and "target 20 met" in printed


@pytest.mark.parametrize("layers", [
    [nn.Conv2d(1, 4, 3), nn.SiLU(), nn.MaxPool2d(2), nn.Conv2d(4, 10, 3), nn.AvgPool2d(11)],               # another activation
    [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 10, 3), nn.MaxPool2d(2), nn.AvgPool2d(12)],               # another order
    [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 10, 3), nn.AvgPool2d(12)]])   # larger maps
def test_a_recipe_is_known_by_its_network_too(layers):
    first = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 10, 3), nn.AvgPool2d(11)]
    one, other = (utils._recipe(DigitNet(nn.Sequential(*each)), 1, 32, None, {}) for each in (first, layers))
    assert one != other and one.startswith("410 parameters") and other.startswith("410 parameters")


def test_on_the_sample_it_is_made_and_nothing_is_kept(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(utils, "RESULTS", tmp_path)
    assert list(_bar(tiny, seeds=[3]).accuracies) == [3] and not list(tmp_path.iterdir())


def test_one_cycle_takes_another_rate(net):
    optimizer, scheduler = utils.one_cycle(net, 320, 2, 32, lr=0.05, betas=(0.9, 0.99), weight_decay=0.01)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01) and optimizer.defaults["weight_decay"] == 0.01
    assert optimizer.defaults["betas"] == (0.9, 0.99)


def test_often_misread():
    swept = {"wrong": {"0": [3, 5], "1": [5, 9], "2": [5, 9], "3": [7]}}
    assert list(utils.often_misread(swept).items()) == [(5, 3), (9, 2)]
