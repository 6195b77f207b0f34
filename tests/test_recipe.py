"""What a training is known by: whatever changes its figures changes the digest, and nothing else does."""

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, lr_scheduler

from lab import recipe
from lab.optimizers import MuonWithAdamW
from model import DigitNet
from utils import Augment, Data, Split

LAYERS = dict(conv=nn.Conv2d(1, 4, 3), norm=nn.BatchNorm2d(4), activation=nn.ReLU(), dropout=nn.Dropout(0.1),
              pool=nn.MaxPool2d(2), head=nn.Conv2d(4, 10, 1), mean=nn.AdaptiveAvgPool2d(1))


@pytest.fixture
def data():
    """Twenty images of noise."""
    return Data("MNIST", Split(torch.randn(20, 1, 28, 28), torch.arange(20) % 10), None)


def describe(data, network=DigitNet, optimizer=SGD, scheduler=None, **changed):
    """Describe a training: `changed` are layers, settings of `fit`, and those of scheduler and optimizer."""
    settings = dict(epochs=5, batch_size=10, augment=Augment(rotation=10), autocast=False, label_smoothing=0)
    settings = {name: changed.pop(name, value) for name, value in settings.items()}
    layers = {name: changed.pop(name, layer) for name, layer in LAYERS.items()}
    cycle = changed.pop("cycle", {})
    net = network(nn.Sequential(*layers.values()))
    made = optimizer(net.parameters(), **{"lr": 0.1, **changed})
    return recipe.describe(net, data, made, scheduler and scheduler(made, **cycle), **settings)


def differing(one, other):
    """Return what two descriptions differ in; their digests differ exactly where that is something."""
    found = [line.split(":")[0] for line in recipe.differences(one, other)]
    assert bool(found) == (recipe.digest(one) != recipe.digest(other))
    return found


def two_groups(parameters, lr, other=0.01):
    first, *rest = parameters
    return SGD([{"params": [first]}, {"params": rest, "lr": other}], lr=lr)


def muon(parameters, lr, **settings):
    parameters = list(parameters)
    return MuonWithAdamW(parameters, parameters[:1], lr, **{"muon_lr": 0.05, **settings})


def some(parameters, lr, count=8):
    return SGD([*parameters][:count], lr=lr)


UNUSUAL = {   # what: (usual, changes), one at a time
    "layer": [({}, [
        dict(conv=nn.Conv2d(1, 4, 5)), dict(conv=nn.Conv2d(1, 4, 3, bias=False)), dict(norm=nn.Identity()),
        dict(conv=nn.Conv2d(1, 4, 3, stride=2)), dict(conv=nn.Conv2d(1, 4, 3, padding=1)),
        dict(conv=nn.Conv2d(1, 4, 3, dilation=2)), dict(head=nn.Conv2d(4, 10, 1, groups=2)),
        dict(norm=nn.BatchNorm2d(4, eps=1e-3)), dict(norm=nn.BatchNorm2d(4, momentum=0.2)),
        dict(norm=nn.BatchNorm2d(4, affine=False)), dict(activation=nn.SiLU()), dict(dropout=nn.Dropout(0.2)),
        dict(dropout=nn.Dropout2d(0.1)), dict(pool=nn.AvgPool2d(2)), dict(pool=nn.MaxPool2d(2, stride=1)),
        dict(conv=nn.Conv2d(1, 5, 3), norm=nn.BatchNorm2d(5), head=nn.Conv2d(5, 10, 1)),   # more channels
        dict(norm=LAYERS["activation"], activation=LAYERS["norm"])])],                     # another order
    "epochs": [({}, [dict(epochs=6)])], "batch size": [({}, [dict(batch_size=20)])],
    "16 bits": [({}, [dict(autocast=True)])], "label smoothing": [({}, [dict(label_smoothing=0.1)])],
    "augmentation": [({}, [dict(augment=None), dict(augment=Augment(rotation=11)), dict(augment=torch.flip),
                           dict(augment=Augment(rotation=10, crop=22, crop_chance=0.2))])],
    "optimizer": [
        ({}, [dict(lr=0.11), dict(momentum=0.9), dict(weight_decay=1e-4), dict(optimizer=AdamW)]),
        (dict(momentum=0.9), [dict(nesterov=True)]), (dict(optimizer=two_groups), [dict(other=0.02)]),
        (dict(optimizer=some), [dict(count=2)]),
        (dict(optimizer=muon), [dict(muon_lr=0.1), dict(momentum=0.8), dict(weight_decay=0.1), dict(lr=0.2)]),
        (dict(optimizer=Adam), [dict(betas=(0.95, 0.999)), dict(eps=1e-6), dict(amsgrad=True)])],
    "scheduler": [({}, [dict(scheduler=lr_scheduler.StepLR, cycle=dict(step_size=2))])]}
SCHEDULERS = {   # class: (settings, changes)
    lr_scheduler.OneCycleLR: (dict(max_lr=0.1, total_steps=50), [
        dict(max_lr=0.2), dict(total_steps=60), dict(pct_start=0.4), dict(div_factor=10),
        dict(cycle_momentum=False), dict(max_momentum=0.9), dict(three_phase=True), dict(base_momentum=0.5),
        dict(max_lr=0.2, div_factor=50), dict(final_div_factor=10), dict(anneal_strategy="linear")]),
    lr_scheduler.CyclicLR: (dict(base_lr=0.01, max_lr=0.1), [
        dict(base_lr=0.02), dict(max_lr=0.2), dict(step_size_up=10), dict(gamma=0.9), dict(base_momentum=0)]),
    lr_scheduler.ReduceLROnPlateau: ({}, [
        dict(mode="max"), dict(factor=0.5), dict(patience=3), dict(threshold=0.1), dict(threshold_mode="abs"),
        dict(cooldown=1), dict(min_lr=0.001)]),
    lr_scheduler.StepLR: (dict(step_size=2), [dict(step_size=3), dict(gamma=0.5)]),
    lr_scheduler.MultiStepLR: (dict(milestones=[2, 4]), [dict(milestones=[2, 3]), dict(gamma=0.5)]),
    lr_scheduler.CosineAnnealingLR: (dict(T_max=5), [dict(T_max=6), dict(eta_min=0.01)])}


@pytest.mark.parametrize("what, usual, change", [
    (what, usual, change) for what in UNUSUAL for usual, changes in UNUSUAL[what] for change in changes])
def test_a_change_of_figures_is_a_change_of_the_digest(data, what, usual, change):
    found = differing(describe(data, **usual), describe(data, **usual | change))
    assert found and all(line.startswith(what) for line in found)


@pytest.mark.parametrize("kind, usual, change", [
    (kind, usual, change) for kind, (usual, changes) in SCHEDULERS.items() for change in changes])
def test_every_setting_of_a_scheduler_counts(data, kind, usual, change):
    one, other = (describe(data, momentum=0.9, scheduler=kind, cycle=c) for c in (usual, usual | change))
    assert differing(one, other)[0] in ("optimizer", "scheduler")   # some settings are handed over at once


@pytest.mark.parametrize("change", [
    lambda images, labels: (images, labels.flip(0)), lambda images, labels: (images + 0.1, labels),
    lambda images, labels: (images * 1.1, labels), lambda images, labels: (images[:15], labels[:15]),
    lambda images, labels: (images.flip(3), labels)],
    ids=["labels shuffled", "brighter", "more contrast", "fewer", "mirrored"])
def test_other_data_is_another_digest(data, change):
    other = data._replace(train=Split(*change(*data.train)))
    assert differing(describe(data), describe(other)) == ["data"]


def turned():
    return lambda images: images.flip(3)


@pytest.mark.parametrize("usual, change", [
    (dict(augment=turned()), dict(augment=turned())),   # known by its name, not by its address
    ({}, dict(network=type("OtherNet", (DigitNet,), {}))), ({}, dict(lr=0.1 + 1e-9)),
    ({}, dict(conv=nn.Conv2d(1, 4, 3))),   # with other weights, which are the seed's
    (dict(optimizer=AdamW), dict(fused=True)), (dict(optimizer=AdamW), dict(foreach=False))])
def test_what_changes_no_figure_changes_no_digest(data, usual, change):
    one = describe(data, **usual)
    torch.manual_seed(7)
    assert differing(one, describe(data._replace(test=data.train), **usual | change)) == []


def test_having_looked_changes_nothing(data):
    net = DigitNet(nn.Sequential(*LAYERS.values()))
    before, stream = {name: value.clone() for name, value in net.state_dict().items()}, torch.get_rng_state()
    recipe.describe(net, data, SGD(net.parameters(), lr=0.1), None, 5, 10, None, False)
    assert torch.equal(torch.get_rng_state(), stream) and net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
