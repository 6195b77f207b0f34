"""What `fit` refuses before any work, because it could not end well, and losses that are no numbers."""

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau


def arguments(net, data, optimizer, scheduler, epochs, batch_size, checkpoint_file, resume):
    """Raise ValueError for arguments of `fit` that do not fit together; nothing is changed."""
    labels, held_out = data.train.labels, data.held_out
    if len(labels) == 0 or held_out and len(held_out.labels) == 0:
        raise ValueError(f"an empty split: {len(labels)} training images,"
                         f" {len(held_out.labels) if held_out else 'no'} images to score")
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    if not 1 <= batch_size <= len(labels):
        raise ValueError(f"batch_size must be between 1 and the {len(labels):,} training images,"
                         f" got {batch_size}")
    ours = {id(parameter) for parameter in net.parameters()}
    if not all(id(parameter) in ours for group in optimizer.param_groups for parameter in group["params"]):
        raise ValueError("the optimizer is of another network")
    if scheduler and scheduler.optimizer is not optimizer:
        raise ValueError("the scheduler is of another optimizer")
    if isinstance(scheduler, ReduceLROnPlateau) and not held_out:
        raise ValueError("ReduceLROnPlateau watches a held-out split, and there is none")
    if resume and not checkpoint_file:
        raise ValueError("resume=True needs a checkpoint_file")
    outputs, classes = _outputs(net, data.train.images[:1]), labels.max().item() + 1
    if outputs < classes:
        raise ValueError(f"the network has {outputs} outputs, the labels go up to {classes - 1}")


@torch.no_grad()
def _outputs(net, image):
    """Return the number of outputs of `net`; random streams and batch norm's statistics stay as they are."""
    training = net.training
    with torch.random.fork_rng(devices=[]):
        outputs = net.eval()(image).shape[1]
    net.train(training)
    return outputs


def finite(losses, what):
    """Return `losses` as a tensor on the CPU; raise FloatingPointError for one that is no number."""
    losses = torch.stack(losses).cpu().double()
    wrong = (~losses.isfinite()).nonzero()
    if len(wrong):
        first = wrong[0].item()
        raise FloatingPointError(f"the loss of {what} {first + 1} of {len(losses)} is {losses[first]}")
    return losses
