"""Data, augmentation, training and scoring, on small data."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD, lr_scheduler
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

import utils
from lab import device
from lab.mnist import at_hand
from model import DigitNet, StridedNet
from utils import MEAN, STD, Augment, Epoch, History, Split, evaluate, fit, load_mnist, predict

# ---------------------------------------------------------------- data

def test_no_mnist_is_said(no_mnist, sample, capsys):
    data = load_mnist(validation=True)
    printed = capsys.readouterr().out
    assert printed.startswith("digits sample: no MNIST") and "says nothing about MNIST" in printed
    assert "digits sample: 1,198 training, 239 validation, 360 test images" in printed
    assert data.held_out is data.validation and sample.held_out is sample.test
    assert data.unscored().held_out is None and data.unscored().train is data.train

    def sums(*splits):
        return torch.cat([split.images.flatten(1).sum(1) for split in splits]).sort().values
    assert torch.equal(sums(data.train, data.validation), sums(sample.train))   # none is lost or doubled


def test_mean_and_std_are_those_of_mnists_training_images():
    if not at_hand():
        pytest.skip("no MNIST here")
    _, train, test, validation = load_mnist(validation=True)
    assert [len(split.labels) for split in (train, validation, test)] == [50_000, 10_000, 10_000]
    pixels = torch.cat([train.images, validation.images]) * STD + MEAN
    assert round(pixels.mean().item(), 4) == MEAN and round(pixels.std().item(), 4) == STD


# ---------------------------------------------------------------- augmentation

def test_every_image_is_changed_in_its_own_way(sample):
    copies = sample.test.images[:1].repeat(2000, 1, 1, 1)
    assert Augment()(copies) is copies
    assert len(Augment(rotation=30)(copies[:20]).flatten(1).unique(dim=0)) == 20
    assert torch.allclose(Augment(rotation=1e-9)(copies[:1]), copies[:1], atol=1e-4)
    changed = (Augment(crop=22, crop_chance=0.1)(copies) - copies).abs().amax((1, 2, 3)) > 0.01
    assert 0.07 < changed.float().mean() < 0.13


@pytest.mark.parametrize("augment, drawn, angle, translate, scale", [
    (Augment(rotation=7), 1.0, -7, (0, 0), 1), (Augment(rotation=15), 0.0, 15, (0, 0), 1),
    (Augment(shift=2), 1.0, 0, (-2, -2), 1), (Augment(scale=0.2), 1.0, 0, (0, 0), 1.2),
    (Augment(scale=0.2, shift=3), 0.0, 0, (3, 3), 0.8)])
def test_the_largest_changes_are_torchvisions(sample, monkeypatch, augment, drawn, angle, translate, scale):
    monkeypatch.setattr(torch, "rand", lambda *size, **kwargs: torch.full(size, drawn))
    images = sample.test.images[:5]
    theirs = TF.affine(images * STD + MEAN, angle, translate, scale, 0, InterpolationMode.BILINEAR)
    assert torch.allclose(augment(images) * STD + MEAN, theirs, atol=1e-4)


def test_crop_is_torchvisions_but_for_the_rim(sample):
    images = sample.test.images[:5]
    ours = Augment(crop=22, crop_chance=1)(images)
    theirs = TF.resize(TF.center_crop(images, 22), 28, InterpolationMode.BILINEAR)
    assert torch.allclose(ours[..., 1:-1, 1:-1], theirs[..., 1:-1, 1:-1], atol=1e-4)


@pytest.mark.parametrize("wrong, error, message", [
    ({"rotation": -1}, ValueError, "between 0 and 180"), ({"rotation": float("nan")}, ValueError, "got nan"),
    ({"shift": 29}, ValueError, "between 0 and 28"), ({"scale": 1}, ValueError, "between 0 and 0.99"),
    ({"crop": 30}, ValueError, "between 0 and 28"), ({"crop_chance": 2}, ValueError, "between 0 and 1"),
    ({"rotation": (-7, 7)}, TypeError, "takes one number, the largest change to either side")])
def test_augment_refuses(wrong, error, message):
    with pytest.raises(error, match=f"{next(iter(wrong))} .*{message}"):
        Augment(**wrong)


# ---------------------------------------------------------------- training

def train(net, data, scheduler=None, epochs=3, lr=0.05, **settings):
    torch.manual_seed(1)
    optimizer = SGD(net.parameters(), lr=lr, momentum=0.9)
    settings = {"batch_size": 32, **settings}
    return fit(net, data, optimizer, scheduler and scheduler(optimizer), epochs=epochs, **settings)


def test_a_training_is_that_of_plain_pytorch(sample):
    """A loop without this project's code, from the same weights and in the same order, gives its figures.

    At a higher rate rounding grows from step to step, in plain PyTorch too, until the two part.
    """
    def layers():
        torch.manual_seed(5)
        return [nn.Conv2d(1, 12, 5, stride=3, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
                nn.Conv2d(12, 20, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(20), nn.MaxPool2d(2),
                nn.Flatten(), nn.Linear(320, 10)]

    net = DigitNet(nn.Sequential(*layers()))
    history = train(net, sample, lambda o: lr_scheduler.StepLR(o, 1, 0.5), epochs=2, lr=0.003, batch_size=64)

    plain, lr, speeds = nn.Sequential(*layers()), 0.003, {}
    (images, labels), test = sample.train, sample.test
    torch.manual_seed(1)
    for epoch in history:
        plain.train()
        total = hits = 0
        for chosen in torch.randperm(len(labels)).split(64):   # the last one is smaller
            outputs = plain(images[chosen])
            loss = F.cross_entropy(outputs, labels[chosen])
            plain.zero_grad()
            loss.backward()
            for parameter in plain.parameters():   # gradient descent with a momentum of 0.9
                speeds[parameter] = 0.9 * speeds.get(parameter, 0) + parameter.grad
                parameter.data -= lr * speeds[parameter]
            total += loss.item() * len(chosen)
            hits += (outputs.argmax(1) == labels[chosen]).sum().item()
        plain.eval()
        outputs = plain(test.images)
        right = (outputs.argmax(1) == test.labels).sum().item()
        assert epoch.lr == lr
        assert (epoch.train_loss, epoch.loss) == pytest.approx(
            (total / len(labels), F.cross_entropy(outputs, test.labels).item()), rel=1e-3)
        assert epoch.train_accuracy == pytest.approx(100 * hits / len(labels), abs=0.08)   # one image
        assert epoch.accuracy == pytest.approx(100 * right / len(test.labels), abs=0.3)    # one image
        lr /= 2
    assert history.last.accuracy > 60   # it has learnt something: agreeing on chance would show little


def test_it_learns_and_prints_each_epoch(net, sample, capsys):
    history = train(net, sample, epochs=8)
    assert history.last.accuracy > 85 and history.last.train_loss < history[0].train_loss / 3
    assert capsys.readouterr().out.splitlines() == [row.line("digits sample", 8, "test") for row in history]
    assert (history.network, history.parameters, history.planned) == ("DigitNet", 5354, 8)
    assert (history.seed, history.scored_on, history.how, history.test) == (1, "test", "", None)


def test_an_epoch_sees_every_image_once_with_its_label():
    numbered = Split(torch.arange(320.0).view(-1, 1, 1, 1).expand(-1, 1, 28, 28), torch.arange(320))
    batches = zip(*utils.batches(numbered, 12, augment=lambda images: -images), strict=True)
    images, labels = (torch.cat(parts) for parts in batches)
    assert torch.equal(-images[:, 0, 0, 0].long(), labels)
    assert labels.tolist() != sorted(labels.tolist()) == list(range(320))


def test_epochs_are_scored_on_what_is_held_out_and_learn_the_same(net, tiny, capsys):
    some = Split(*(part[:50] for part in tiny.test))
    validated, blind, scored = (copy.deepcopy(net) for _ in range(3))
    histories = [train(*each) for each in (
        (validated, tiny._replace(validation=some)), (blind, tiny.unscored()), (scored, tiny))]
    assert [history.scored_on for history in histories] == ["validation", None, "test"]
    assert [history.last[3:5] for history in histories] == [
        evaluate(validated, some), (None, None), evaluate(scored, tiny.test)]
    assert len({tuple(epoch[:3] for epoch in history) for history in histories}) == 1
    lines = capsys.readouterr().out.splitlines()
    assert " validation " in lines[2] and " test " not in lines[5] and " test " in lines[8]


def rates(scheduler, net, data, epochs=6):
    return [epoch.lr for epoch in train(net, data, scheduler, epochs)]


def test_schedulers_step_per_epoch_or_per_batch(net, tiny):
    made = []
    expected = [.05, .05, .005, .005, .0005, .0005]
    assert rates(lambda o: lr_scheduler.StepLR(o, 2, 0.1), net, tiny) == pytest.approx(expected)
    for make in (lr_scheduler.OneCycleLR, 0.1, 60), (lr_scheduler.CyclicLR, 0.01, 0.1):
        rates(lambda optimizer, make=make: made.append(make[0](optimizer, *make[1:])) or made[-1], net, tiny)
    assert [scheduler.last_epoch for scheduler in made] == [60, 60]   # 6 epochs of 10 batches


@pytest.mark.parametrize("mode, watched, other", [("max", "accuracy", "loss"), ("min", "loss", "accuracy")])
def test_scheduler_on_a_score(net, tiny, monkeypatch, mode, watched, other):
    """With a patience of 1, the rate halves in epochs 4 and 6 where the score that is watched stays."""
    def with_improving(score):
        better = {"accuracy": [50, 51, 52, 53, 54, 55], "loss": [6, 5, 4, 3, 2, 1]}[score]
        scores = iter(utils.Score(1, 50)._replace(**{score: value}) for value in better)
        monkeypatch.setattr(utils, "evaluate", lambda *args, **kwargs: next(scores))
        return rates(lambda o: lr_scheduler.ReduceLROnPlateau(o, mode, factor=0.5, patience=1), net, tiny)
    assert with_improving(watched) == [.05] * 6
    assert with_improving(other) == pytest.approx([.05, .05, .05, .025, .025, .0125])


def test_label_smoothing_is_pytorchs(tiny):
    """The step is that of cross_entropy's label_smoothing, the printed loss the one without it."""
    net = DigitNet(nn.Flatten(), nn.Linear(784, 10))
    plain = copy.deepcopy(net)
    data = tiny._replace(train=Split(*(part[:32] for part in tiny.train)))
    history = fit(net, data, SGD(net.parameters(), lr=0.5), epochs=1, batch_size=32, label_smoothing=0.2)
    outputs = plain(data.train.images)
    F.cross_entropy(outputs, data.train.labels, label_smoothing=0.2).backward()
    SGD(plain.parameters(), lr=0.5).step()
    assert history.last.train_loss == pytest.approx(F.nll_loss(outputs, data.train.labels).item(), rel=1e-4)
    for ours, theirs in zip(net.parameters(), plain.parameters()):
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.skipif(not device.half_type(torch.device("cpu")), reason="no native bfloat16 here")
def test_autocast_trains_in_16_bits(net, sample):
    seen = set()
    net.layers[0].register_forward_hook(lambda layer, images, maps: seen.add((layer.training, maps.dtype)))
    assert train(net, sample, epochs=4, autocast=True).last.accuracy > 80
    assert (True, torch.bfloat16) in seen and (True, torch.float32) not in seen


@pytest.mark.parametrize("kind, native, found", [
    ("cuda", True, torch.bfloat16), ("cuda", False, None), ("mps", False, None)])
def test_16_bits_only_where_the_device_computes_in_them(monkeypatch, kind, native, found):
    emulated = lambda including_emulation=True: native or including_emulation
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", emulated)
    assert device.half_type(torch.device(kind)) == found


# ---------------------------------------------------------------- what is refused

def test_a_loss_that_is_no_number_stops_the_training(net, tiny):
    batches = []

    class Breaking(nn.Module):
        def forward(self, x):
            if self.training:
                batches.append(len(x))
            return net(x) * (float("nan") if len(batches) == 13 else 1)
    breaking = Breaking()
    breaking.net = net
    with pytest.raises(FloatingPointError, match="^epoch 2: the loss of batch 3 of 10 is nan, near .* 0.05;"):
        train(breaking, tiny)


def test_what_goes_wrong_later_keeps_the_history(net, tiny):
    calls = []

    def fail_in_the_third_epoch(images):
        calls.append(len(images))
        if len(calls) > 2:
            raise OSError("no more")
        return images
    with pytest.raises(OSError, match="no more") as stopped:
        fit(net, tiny, _optimizer(net), epochs=5, batch_size=32, augment=fail_in_the_third_epoch)
    assert [epoch.epoch for epoch in stopped.value.history] == [1, 2]


def test_a_rate_far_too_high_is_named(net, tiny):
    with pytest.raises(FloatingPointError, match="is (nan|inf), near a learning rate of 1e.30; a lower one"):
        train(net, tiny, lr=1e30)


def _optimizer(net):
    return SGD(net.parameters(), lr=0.1)


def _one_cycle(net, steps):
    optimizer = _optimizer(net)
    cycle = lr_scheduler.OneCycleLR(optimizer, 0.1, epochs=2, steps_per_epoch=steps)
    return dict(optimizer=optimizer, scheduler=cycle)


def _plateau(net):
    optimizer = _optimizer(net)
    return dict(optimizer=optimizer, scheduler=lr_scheduler.ReduceLROnPlateau(optimizer))


def _empty(split):
    return Split(*(part[:0] for part in split))


@pytest.mark.parametrize("change, message", [
    (lambda net, data: dict(epochs=0), "epochs must be at least 1, got 0"),
    (lambda net, data: dict(batch_size=321), "must be between 1 and the 320 training images, got 321"),
    (lambda net, data: dict(batch_size=0), "got 0"),
    (lambda net, data: dict(label_smoothing=1), "takes a share, from 0 to less than 1, got 1"),
    (lambda net, data: dict(label_smoothing="a tenth"), "got 'a tenth'"),
    (lambda net, data: dict(data=data._replace(train=_empty(data.train))), "split: 0 training images, 100"),
    (lambda net, data: dict(data=data._replace(test=_empty(data.test))), "split: 320 training images, 0"),
    (lambda net, data: dict(optimizer=_optimizer(nn.Linear(2, 2))), "the optimizer is of another network"),
    (lambda net, data: dict(scheduler=lr_scheduler.StepLR(_optimizer(net), 1)), "is of another optimizer"),
    (lambda net, data: dict(resume=True), "resume=True needs a checkpoint_file"),
    (lambda net, data: dict(data=data.unscored(), **_plateau(net)), "Plateau watches a held-out split"),
    (lambda net, data: dict(data=data._replace(train=data.train._replace(labels=data.train.labels + 3))),
     "the network has 10 outputs, the labels go up to 12"),
    (lambda net, data: dict(optimizer=torch.optim.LBFGS(net.parameters())), "LBFGS calls the network"),
    (lambda net, data: dict(epochs=2, **_one_cycle(net, 320 // 30), batch_size=30),
     "the scheduler is made for 20 batches, and 2 epochs of 320 images in batches of 30 are 22"),
    (lambda net, data: dict(checkpoint_file="no/such/a.pt"), "there is no folder no/such that can"),
    (lambda net, data: dict(checkpoint_file="."), "checkpoint_file .: is a folder"),
    (lambda net, data: dict(data=data._replace(train=data.train._replace(labels=data.train.labels[:9]))),
     "an int64 label for each image, got 320 images and 9 labels"),
    (lambda net, data: dict(data=data._replace(train=data.train._replace(labels=data.train.labels.float()))),
     "320 labels of torch.float32"),
    (lambda net, data: dict(data=data._replace(train=data.train._replace(labels=data.train.labels - 1))),
     "the labels begin at -1")])
def test_arguments_that_do_not_fit_together(net, tiny, change, message, capsys):
    arguments = dict(data=tiny, optimizer=_optimizer(net), epochs=1, batch_size=32) | change(net, tiny)
    before, stream = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    with pytest.raises(ValueError, match=message):
        fit(net, **arguments)
    assert capsys.readouterr().out == "" and torch.equal(torch.get_rng_state(), stream) and net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("change, message", [
    (dict(epochs="15"), "epochs takes a whole number, got '15'"), (dict(batch_size=32.0), "batch_size takes"),
    (dict(data=[(torch.zeros(2, 1, 28, 28), torch.zeros(2))]), "data takes what load_mnist returns.*list"),
    (dict(optimizer=SGD), "optimizer takes one of torch.optim's")])
def test_arguments_of_a_wrong_kind(net, tiny, change, message):
    with pytest.raises(TypeError, match=message):
        fit(net, **dict(data=tiny, optimizer=_optimizer(net), epochs=1) | change)


def test_a_network_elsewhere_than_the_data_is_refused(tiny):
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).to("meta")
    with pytest.raises(ValueError, match="the network is on meta, the data on cpu; move it"):
        fit(net, tiny, _optimizer(net))


@pytest.mark.parametrize("last, message", [
    ([], "exponentials add up to .* let it end in log_softmax"), ([nn.Softmax(1)], "add up to"),
    ([nn.Unflatten(1, (2, 5))], r"makes \(2, 2, 5\) of 2 images; expected \(2, 10\)")])
def test_a_network_without_log_probabilities_is_refused(tiny, last, message):
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), *last)
    with pytest.raises(ValueError, match=message):
        fit(net, tiny, _optimizer(net), epochs=1)


def test_a_last_batch_of_one_is_refused_where_batch_norm_needs_two(net, tiny):
    data = tiny._replace(train=Split(*(part[:65] for part in tiny.train)))
    fit(net, data, _optimizer(net), epochs=1, batch_size=32)   # its maps have more than one position
    strided = StridedNet()
    with pytest.raises(ValueError, match="65 images in batches of 32 leave a last batch of one.*size=31"):
        fit(strided, data, _optimizer(strided), epochs=1, batch_size=32)
    fit(strided, data, _optimizer(strided), epochs=1, batch_size=31)


# ---------------------------------------------------------------- scoring

def test_scores_are_those_of_plain_pytorch(net, sample):
    images, labels = sample.test
    history = History()
    score, accuracy = evaluate(net, sample.test), utils.score_once(history, net, sample.test)
    net.eval()
    one_by_one = torch.stack([net(image.unsqueeze(0))[0] for image in images])
    assert torch.allclose(predict(net, images, batch_size=50), one_by_one, atol=1e-5)
    wrong = (one_by_one.argmax(1) != labels).nonzero().flatten().tolist()
    assert score.loss == pytest.approx(F.nll_loss(one_by_one, labels).item(), rel=1e-4)
    assert [score.accuracy, accuracy] == pytest.approx([100 - 100 * len(wrong) / len(labels)] * 2)
    assert (history.misread, history.test) == (wrong, accuracy)


def test_best_and_last_are_apart():
    history = History(Epoch(i, 0, 0, 0, accuracy, 0, 0) for i, accuracy in enumerate([90., 95., 95., 93.], 1))
    assert history.best.epoch == 2 and history.last.epoch == 4
    with pytest.raises(ValueError, match="the training of GapNet was interrupted in its first epoch"):
        print(History(network="GapNet").last)
