"""Trainings that stand behind a table and that no notebook makes.

What an idea is worth where it can work, what may lie behind two claims that nobody here reached, and what was
tried beside notebook 13. `python run.py NAME --seeds 0-4` trains study NAME: a row for each training goes to
results/studies.csv. A study is a generator: from a seed, it yields each training as a `Trial` that is to be
made before the next one is asked for, so that every training starts from that seed alone.
"""

import inspect

import torch
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lab import record, training
from lab.keep import environment
from model import Baseline, DigitNet, OneCycleNet, RotationNet, SchedulerNet, SmallNet, TinyNet, light_layers
from utils import Augment, Split, evaluate, fit, load_mnist, one_cycle, pick_device, score_once, set_seed


class Trial:
    """One training of a study: its name, the arguments of `fit`, and what is done with the History then."""
    def __init__(self, run, net, data, optimizer, scheduler=None, finish=lambda history: None, **settings):
        self.run, self.finish = run, finish
        self.arguments = dict(net=net, data=data, optimizer=optimizer, scheduler=scheduler, **settings)


def seeded(seed, data, make, **settings):
    """Return a network made from `seed`, on the device of `data`."""
    set_seed(seed)
    return make(**settings).to(data.train.images.device)


def sgd(net, lr):
    """Return the optimizer of the ladder."""
    return torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)


# ---------------------------------------------------------------- each idea where it can work

def pooled(norm=True, dropout=0.0):
    """Return the light network with global average pooling, and with batch norm and dropout as asked for."""
    return DigitNet(light_layers(norm=norm, dropout=dropout, pool=True))


def baseline_rates(seed):
    """Whether the baseline learns: one epoch at its rate and at a third of it, scored on the test set."""
    data = load_mnist(pick_device())
    for rate in (0.03, 0.01):
        net = seeded(seed, data, Baseline)
        yield Trial(f"rate {rate:g}", net, data, sgd(net, rate), epochs=1, autocast=True)


def batch_norm_rates(seed):
    """Batch norm against the learning rate: one epoch of the light network with pooling, on validation."""
    data = load_mnist(pick_device(), validation=True)
    for rate in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0):
        for norm in (True, False):
            net = seeded(seed, data, pooled, norm=norm)
            run = f"{'with' if norm else 'without'}, rate {rate:g}"
            yield Trial(run, net, data, sgd(net, rate), epochs=1)


def batch_norm(seed):
    """Batch norm at the best rate of each: fifteen epochs of the same network, on validation."""
    data = load_mnist(pick_device(), validation=True)
    for norm, rate in ((True, 0.3), (False, 0.1)):   # the best after one epoch: batch_norm_rates
        net = seeded(seed, data, pooled, norm=norm)
        yield Trial(f"{'with' if norm else 'without'}, rate {rate:g}", net, data, sgd(net, rate), epochs=15)


def dropout_few_images(seed):
    """Dropout against the number of training images, scored once on the test set.

    The rate ends at nothing, so that the last epoch does not swing; few images get more epochs.
    """
    data = load_mnist(pick_device())
    for count, epochs in ((60_000, 15), (5_000, 60), (1_000, 150)):
        few = data._replace(train=Split(*(part[:count] for part in data.train)))
        for dropout in (0.25, 0):
            net = seeded(seed, few, pooled, dropout=dropout)
            optimizer = sgd(net, 0.1)
            cycle = lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, epochs=epochs,
                                            steps_per_epoch=len(few.train.labels.split(128)))
            yield Trial(f"{count:,} images, dropout {dropout:g}", net, few.unscored(), optimizer, cycle,
                        finish=lambda history, net=net: score_once(history, net, data.test), epochs=epochs)


def plateau_long(seed):
    """The plateau scheduler of step 6 in a run that is long enough for it to act, on validation."""
    data = load_mnist(pick_device(), validation=True)
    for run in ("plateau scheduler", "constant rate"):
        net = seeded(seed, data, SchedulerNet)
        optimizer = sgd(net, 0.3)
        plateau = lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=3, factor=0.5)
        schedule = plateau if run == "plateau scheduler" else None
        yield Trial(run, net, data, optimizer, schedule, epochs=40, augment=Augment(rotation=7))


# ---------------------------------------------------------------- two claims that nobody here reached

C = dict(epochs=19, augment=Augment(rotation=7))   # and batches of 128: fit's default


def adam(net, data, peak=0.005, kind=torch.optim.Adam, weight_decay=1e-4):
    """Return C's optimizer and its one cycle up to `peak`."""
    optimizer = kind(net.parameters(), lr=0.0005, weight_decay=weight_decay)
    return optimizer, lr_scheduler.OneCycleLR(optimizer, max_lr=peak, pct_start=0.2, epochs=C["epochs"],
                                              steps_per_epoch=len(data.train.labels.split(128)))


def one_cycle_rivals(seed):
    """Other schedules for C's network at the peak of its one cycle, on validation."""
    data = load_mnist(pick_device(), validation=True)
    for run, drops in (("constant 0.005", []), ("a tenth after epochs 10 and 15", [10, 15])):
        net = seeded(seed, data, OneCycleNet)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.005, weight_decay=1e-4)
        steps = lr_scheduler.MultiStepLR(optimizer, drops) if drops else None
        yield Trial(run, net, data, optimizer, steps, **C)


def claim_of_c(seed):
    """C's recipe with one change at a time of what its text leaves open, or fixes, on its own split."""
    data = load_mnist(pick_device(), validation=True)
    for run, augment, changed in (
            ("rotation 15", Augment(rotation=15), {}),
            ("rotation 7, shift 2 pixels", Augment(rotation=7, shift=2), {}),
            ("peak 0.02", C["augment"], {"peak": 0.02}),
            ("decoupled weight decay 0.05", C["augment"], {"kind": torch.optim.AdamW, "weight_decay": 0.05})):
        net = seeded(seed, data, OneCycleNet)
        yield Trial(run, net, data, *adam(net, data, **changed), **{**C, "augment": augment})
    net = seeded(seed, data, OneCycleNet)
    optimizer, cycle = adam(net, data)
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.998), use_buffers=True)
    optimizer.register_step_post_hook(lambda *_: average.update_parameters(net))

    def score_average(history):
        history[-1] = history.last._replace(**evaluate(average.module, data.validation)._asdict())
    yield Trial("average of the weights", net, data, optimizer, cycle, finish=score_average, **C)


def log_of_d(seed):
    """D's network at several angles and schedules, against the numbers of its log; scored on the test set.

    The two settings of seed 0 that come nearest to the log get the other seeds too.
    """
    data = load_mnist(pick_device())
    settings = ((35, 6), (20, 6), (15, 6), (10, 6), (7, 6), (10, 5), (10, 7), (10, 10), (15, 7),
                (10, "plateau"))
    for angle, every in settings if seed == 0 else ((15, 6), (10, 10)):
        net = seeded(seed, data, RotationNet)
        optimizer = sgd(net, 0.1)
        if every == "plateau":
            run = f"{angle} degrees, plateau"
            schedule = lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=2, factor=0.1)
        else:
            run = f"{angle} degrees, a tenth after every {every} epochs"
            schedule = lr_scheduler.StepLR(optimizer, every)
        yield Trial(run, net, data, optimizer, schedule, epochs=15, augment=Augment(rotation=angle))


# ---------------------------------------------------------------- beside notebook 13

def smallest(seed):
    """What did not help: other shapes of TinyNet, less augmentation of SmallNet; scored on the test set."""
    data = load_mnist(pick_device())
    for run, make, epochs, batch, augment in (
            ("six blocks of nine", lambda: TinyNet(first=6, width=9, blocks=6), 15, 64, Augment(10, 2, 0.1)),
            ("eight channels", lambda: TinyNet(first=6, width=8), 45, 128, Augment(5, 1, 0.05)),
            ("SmallNet, less augmentation", SmallNet, 15, 64, Augment(6, 1.2, 0.06))):
        net = seeded(seed, data, make)
        optimizer, cycle = one_cycle(net, len(data.train.labels), epochs, batch, lr=0.03, betas=(0.9, 0.99),
                                     weight_decay=0.01)   # as in notebook 13
        yield Trial(run, net, data.unscored(), optimizer, cycle, epochs=epochs, batch_size=batch,
                    augment=augment, finish=lambda history, net=net: score_once(history, net, data.test))


STUDIES = {study.__name__: study for study in (
    baseline_rates, batch_norm_rates, batch_norm, dropout_few_images, plateau_long, one_cycle_rivals,
    claim_of_c, log_of_d, smallest)}


def train_study(name, seed):
    """Train a study from `seed`, but for what is there, and yield a Record of each training.

    A training whose loss is no number gets one without epochs: that it cannot be trained is a result.
    """
    for trial in STUDIES[name](seed):
        there, recipe = record.read_rows(record.STUDIES), _recipe(trial.arguments)
        row = [name, trial.run, training.digest(recipe), seed]
        if (there[["notebook", "run", "recipe", "seed"]] == row).all(axis=1).any():
            print(f"{name}, {trial.run}, seed {seed}: there already", flush=True)
            continue
        print(f"--- {name}, {trial.run}, seed {seed}", flush=True)
        try:
            history = fit(**trial.arguments)
            if len(history) < history.planned:
                raise KeyboardInterrupt
            trial.finish(history)
        except FloatingPointError as error:
            print(f"{name}, {trial.run}, seed {seed}: {error}", flush=True)
            history = error.history
            history.clear()
        yield record.Record(name, seed, {trial.run: history}, environment=environment())


def _recipe(arguments):
    """Return the recipe of a call of `fit` with these arguments."""
    call = inspect.signature(fit).bind(**arguments)
    call.apply_defaults()
    wanted = inspect.signature(training.describe).parameters
    return training.describe(*(call.arguments[name] for name in wanted))
