"""The epochs of one training, and what else is known of it."""

from typing import NamedTuple


class Epoch(NamedTuple):
    """The figures of one epoch, in percent; `loss` and `accuracy` are of what scores the epochs."""
    epoch: int                # from 1
    train_loss: float         # running, as trained: with dropout and augmentation
    train_accuracy: float     # %, likewise
    loss: float | None        # of the validation split, else of the test set; None where nothing is scored
    accuracy: float | None    # %, likewise
    lr: float                 # at the end of the epoch, before a scheduler's step per epoch
    seconds: float            # of training, scoring not counted

    def line(self, dataset, epochs, scored_on):
        """Write the epoch as one line."""
        score = f"  {scored_on} {self.loss:.4f} {self.accuracy:6.2f} %" if self.accuracy is not None else ""
        train = f"train {self.train_loss:.4f} {self.train_accuracy:6.2f} %"
        rest = f"lr {self.lr:.2g}  {self.seconds:.1f} s"
        return f"{dataset}  epoch {self.epoch:2}/{epochs}  {train}{score}  {rest}"


class History(list):
    """The Epochs of one training of `network`, as far as it has come.

    dataset: "MNIST" or "digits sample". planned: the epochs that were asked for.
    scored_on: "validation" or "test", what scores the epochs; None where nothing does.
    seed and recipe: what the training is known by. how: what was not trained here but taken from the record.
    test: accuracy in percent on the test set, scored once, after the last epoch; None where it was not.
    misread: places in the test set of the images that were misread then.
    """

    def __init__(self, epochs=(), *, dataset="MNIST", network="", parameters=0, planned=0, scored_on="test",
                 seed=0, recipe=None, how="", test=None, misread=()):
        super().__init__(epochs)
        self.dataset, self.network, self.parameters, self.planned = dataset, network, parameters, planned
        self.scored_on, self.seed, self.recipe, self.how = scored_on, seed, recipe or {}, how
        self.test, self.misread = test, list(misread)

    @property
    def best(self):
        """The first epoch of the highest accuracy: chosen on the images that score it, so it flatters."""
        return max(self._some(), key=lambda epoch: epoch.accuracy)

    @property
    def last(self):
        """The last epoch."""
        return self._some()[-1]

    def _some(self):
        if not self:
            raise ValueError(f"the training of {self.network} was interrupted in its first epoch, so it has"
                             " no figures; run its cell again")
        return self
