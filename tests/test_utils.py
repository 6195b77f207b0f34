"""Data, augmentation, training and scoring, on small data."""

import copy
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR, ReduceLROnPlateau, StepLR
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

import utils
from lab import record
from lab.data import at_hand
from lab.fast import FastBatchNorm2d, half_type
from model import DigitNet
from utils import MEAN, STD, Augment, History, Score, Split, evaluate, fit, load_mnist, predict

# ---------------------------------------------------------------- data

def test_no_mnist_is_said(no_mnist, sample, capsys):
    data = load_mnist(validation=True)
    printed = capsys.readouterr().out
    assert printed.startswith("digits sample: no MNIST") and "says nothing about MNIST" in printed
    assert "digits sample: 1,198 training, 239 validation, 360 test images" in printed
    assert data.held_out is data.validation and sample.held_out is sample.test
    whole = torch.cat([data.train.images, data.validation.images]).flatten(1).sum(1).sort().values
    assert torch.equal(whole, sample.train.images.flatten(1).sum(1).sort().values)   # none is lost or doubled


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
    changed = (Augment(crop=22, crop_chance=0.1)(copies) - copies).abs().amax((1, 2, 3)) > 0.01
    assert 0.07 < changed.float().mean() < 0.13


affine = lambda angle=0, shift=0, scale=1: lambda images: TF.affine(
    images, angle, (shift, shift), scale, 0, InterpolationMode.BILINEAR)


@pytest.mark.parametrize("drawn, augment, torchvisions", [
    (1.0, Augment(rotation=7), affine(-7)), (0.0, Augment(rotation=15), affine(15)),
    (1.0, Augment(shift=2), affine(shift=-2)), (1.0, Augment(scale=0.2), affine(scale=1.2)),
    (0.0, Augment(scale=0.2, shift=3), affine(shift=3, scale=0.8)), (0.5, Augment(crop=22, crop_chance=1),
     lambda images: TF.resize(TF.center_crop(images, 22), 28, InterpolationMode.BILINEAR))])
def test_the_largest_changes_are_torchvisions(sample, monkeypatch, drawn, augment, torchvisions):
    monkeypatch.setattr(torch, "rand", lambda *size, **kwargs: torch.full(size, drawn))
    ours, theirs = augment(sample.test.images[:5]), torchvisions(sample.test.images[:5] * STD + MEAN)
    but_for_the_rim = ..., slice(1, -1), slice(1, -1)
    assert torch.allclose((ours * STD + MEAN)[but_for_the_rim], theirs[but_for_the_rim], atol=1e-4)


@pytest.mark.parametrize("what, wrong, message", [
    ("rotation", -1, "between 0 and 180"), ("shift", float("nan"), "28, got nan"), ("scale", 1, "0 and 0.99"),
    ("crop", 30, "between 0 and 28"), ("rotation", (-7, 7), "takes one number, the largest change to ei")])
def test_augment_refuses(what, wrong, message):
    with pytest.raises((TypeError, ValueError), match=f"{what} .*{message}"):
        Augment(**{what: wrong})


# ---------------------------------------------------------------- training

def train(net, data, scheduler=None, epochs=3, lr=0.05, batch_size=32, **settings):
    torch.manual_seed(1)
    optimizer = SGD(net.parameters(), lr=lr, momentum=0.9)
    return fit(net, data, optimizer, scheduler and scheduler(optimizer), epochs, batch_size, **settings)


@pytest.mark.parametrize("loss, smoothing", [
    (F.nll_loss, 0), (nn.CrossEntropyLoss(label_smoothing=0.1), 0.1),
    (lambda outputs, labels: F.nll_loss(outputs, labels).lerp(-outputs.mean(), 0.1), 0.1)])   # 12_fastest's
def test_a_training_is_that_of_plain_pytorch(sample, loss, smoothing):
    """A loop without this project's code, from the same weights and in the same order, gives its figures.

    At a higher rate rounding grows from step to step, in plain PyTorch too, until the two part.
    """
    torch.manual_seed(5)
    plain = nn.Sequential(nn.Conv2d(1, 12, 5, stride=3, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
                          nn.Conv2d(12, 20, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(20), nn.MaxPool2d(2),
                          nn.Flatten(), nn.Linear(320, 10))
    history = train(DigitNet(copy.deepcopy(plain)), sample, lambda optimizer: StepLR(optimizer, 1, 0.5),
                    epochs=2, lr=0.003, batch_size=64, loss=loss)
    (images, labels), test, lr, speeds = sample.train, sample.test, 0.003, {}
    torch.manual_seed(1)
    for epoch in history:
        plain.train()
        total = hits = 0
        for chosen in torch.randperm(len(labels)).split(64):   # the last one is smaller
            outputs = plain(images[chosen])
            plain.zero_grad()
            F.cross_entropy(outputs, labels[chosen], label_smoothing=smoothing).backward()
            for parameter in plain.parameters():   # gradient descent with a momentum of 0.9
                speeds[parameter] = 0.9 * speeds.get(parameter, 0) + parameter.grad
                parameter.data -= lr * speeds[parameter]
            total += F.cross_entropy(outputs, labels[chosen]).item() * len(chosen)   # never smoothed
            hits += (outputs.argmax(1) == labels[chosen]).sum().item()
        test_loss = F.cross_entropy(plain.eval()(test.images), test.labels).item()
        assert [epoch.train_loss, epoch.loss] == pytest.approx([total / len(labels), test_loss], rel=1e-2)
        assert epoch.train_accuracy == pytest.approx(100 * hits / len(labels), abs=0.3)   # a few images
        assert epoch.lr == lr
        lr /= 2
    assert history.last.accuracy > 60   # it has learnt something: agreeing on chance would show little


def test_epochs_are_scored_on_what_is_held_out_and_learn_the_same(net, tiny, capsys):
    validated = tiny._replace(validation=Split(*(part[:50] for part in tiny.test)))
    trained, lines = set(), []
    for data, scored_on in ((validated, "validation"), (tiny.unscored(), None), (tiny, "test")):
        same = copy.deepcopy(net)
        history = train(same, data)
        score = evaluate(same, data.held_out) if scored_on else (None, None)
        assert history.last[3:5] == score and history.scored_on == scored_on
        trained.add(tuple(epoch[:3] for epoch in history))
        lines += [epoch.line("digits sample", 3, scored_on) for epoch in history]
    assert len(trained) == 1 and capsys.readouterr().out.splitlines() == lines
    assert (history.network, history.parameters, history.planned, history.seed) == ("DigitNet", 5354, 3, 1)


@pytest.mark.parametrize("scheduler, last", [
    (lambda optimizer: OneCycleLR(optimizer, 0.1, 40), 0),
    (lambda optimizer: CyclicLR(optimizer, 0.01, 0.1, step_size_up=25), 0.046)])
def test_schedulers_that_step_after_every_batch(net, tiny, scheduler, last):
    assert train(net, tiny, scheduler, epochs=4).last.lr == pytest.approx(last, abs=1e-3)   # of 10 batches


@pytest.mark.parametrize("mode, better, lower, last", [
    ("max", 1, 0, 0.05), ("max", 0, 1, 0.025), ("min", 0, 1, 0.05), ("min", 1, 0, 0.025)])
def test_a_plateau_is_one_of_accuracy_or_loss(net, tiny, monkeypatch, mode, better, lower, last):
    scores = [Score(4 - lower * epoch, 50 + better * epoch) for epoch in range(4)]
    monkeypatch.setattr(utils, "evaluate", Mock(side_effect=scores))
    plateau = lambda optimizer: ReduceLROnPlateau(optimizer, mode, factor=0.5, patience=1)
    assert train(net, tiny, plateau, epochs=4).last.lr == last


@pytest.mark.skipif(not half_type(torch.device("cpu")), reason="no native bfloat16 here")
def test_autocast_trains_in_16_bits(net, tiny):
    seen = set()
    net.layers[0].register_forward_hook(lambda layer, images, maps: seen.add((layer.training, maps.dtype)))
    assert train(net, tiny, epochs=4, autocast=True).last.accuracy > 80
    assert (True, torch.bfloat16) in seen and (True, torch.float32) not in seen


# ---------------------------------------------------------------- how it ends

@pytest.mark.parametrize("end", [None, KeyboardInterrupt()])
def test_afterwards_the_network_is_as_the_user_made_it(net, tiny, end):
    """Its layout in memory, its layers and their modes; and the parameters are the same objects."""
    net.layers[3].eval()
    made = lambda: ([(id(tensor), tensor.stride()) for tensor in (*net.parameters(), *net.buffers())],
                    [(type(module), module.training) for module in net.modules()])
    before, weight, seen = made(), net.layers[0].weight.tolist(), set()
    net.layers[1].register_forward_hook(lambda layer, *_: seen.add(type(layer)))
    train(net, tiny, epochs=2, augment=end and Mock(side_effect=[tiny.train.images] * 3 + [end]))
    assert made() == before and net.layers[0].weight.tolist() != weight and FastBatchNorm2d in seen


def test_what_goes_wrong_later_keeps_the_history(net, tiny, capsys):
    """In the third epoch, at the fifth call of the augmentation: the first two are the recipe's."""
    stopped = lambda third: train(net, tiny, augment=Mock(side_effect=[tiny.train.images] * 4 + [third]))
    spoiled = tiny.train.images.clone()
    spoiled[64:66] = float("nan")
    with pytest.raises(FloatingPointError, match="epoch 1: the loss of the test images is nan, near .* 0.05"):
        train(net, tiny._replace(test=Split(spoiled, tiny.train.labels)))
    assert len(stopped(KeyboardInterrupt())) == 2
    assert "interrupted after 2 of 3 epochs; this is their history" in capsys.readouterr().out
    said = "^epoch 3: the loss of batch 3 of 10 is nan, near a learning rate of 0.05; a lower one may do$"
    for third, error, message in (OSError("full"), OSError, "full"), (spoiled, FloatingPointError, said):
        with pytest.raises(error, match=message) as stop:
            stopped(third)
        assert len(stop.value.history) == 2


def test_a_test_trains_the_first_epoch_and_takes_the_rest_from_the_record(net, tiny, monkeypatch):
    mnist, whole = tiny._replace(name="MNIST"), copy.deepcopy(net)
    recorded = train(whole, mnist)
    monkeypatch.setattr(record, "read_all", lambda: {"1_a": record.Record("1_a", 1, {"run": recorded})})
    monkeypatch.setattr(record, "load_weights", lambda notebook, run: whole.state_dict())
    monkeypatch.setenv("FIT_MODE", "test")
    history = train(net, mnist)
    assert history.trained == 1 and history[0][:-1] == recorded[0][:-1] and history[1:] == recorded[1:]
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in whole.state_dict().items())
    assert train(net, tiny).trained == 3   # there is no record of the digits sample


# ---------------------------------------------------------------- scoring

def test_scores_are_those_of_plain_pytorch(net, sample):
    images, labels = sample.test
    history = History()
    score, accuracy = evaluate(net, sample.test), utils.score_once(history, net, sample.test)
    one_by_one = torch.stack([net.eval()(image.unsqueeze(0))[0] for image in images])
    assert torch.allclose(predict(net, images, batch_size=50), one_by_one, atol=1e-5)
    wrong = (one_by_one.argmax(1) != labels).nonzero().flatten().tolist()
    assert score.loss == pytest.approx(F.nll_loss(one_by_one, labels).item(), rel=1e-4)
    assert [score.accuracy, accuracy] == pytest.approx([100 - 100 * len(wrong) / len(labels)] * 2)
    assert (history.misread, history.test) == (wrong, accuracy)
    first, second = one_by_one.topk(2).values.T
    assert history.ties == [place for place, gap in enumerate(first - second) if gap < 0.02] != []
