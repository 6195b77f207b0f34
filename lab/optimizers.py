"""The one-cycle recipe of the fast, small and accurate networks; AdamW with Muon for some of the weights."""

import inspect
import math

import torch
from torch import nn
from torch.optim import AdamW, lr_scheduler


def one_cycle(net, images, epochs, batch_size=256, lr=0.02, betas=(0.8, 0.95), weight_decay=0.05, muon_lr=0):
    """Return an optimizer and OneCycleLR for `epochs` of `images` images.

    The rate rises from a fifth of `lr` to `lr` in the first fifth of the batches, then falls to nothing
    (Smith and Topin, Super-convergence, 2018). The optimizer is AdamW; with `muon_lr`, the weights of the
    hidden convolutions and linear layers, all but the first and the last, get Muon's update, with that peak.
    Raises ValueError where there are none.
    """
    settings = dict(betas=betas, weight_decay=weight_decay, fused=True)
    if muon_lr:
        hidden = [layer.weight for layer in net.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))][1:-1]
        if not hidden:
            raise ValueError("muon_lr is for hidden layers, and there is none between the first and the last")
        optimizer = MuonWithAdamW(net.parameters(), hidden, lr, muon_lr, **settings)
    else:
        optimizer = AdamW(net.parameters(), lr, **settings)
    return optimizer, lr_scheduler.OneCycleLR(
        optimizer, max_lr=[lr, muon_lr] if muon_lr else lr, total_steps=epochs * -(-images // batch_size),
        pct_start=0.201,   # with 0.2 of five batches PyTorch divides by zero
        div_factor=5, cycle_momentum=False)


class MuonWithAdamW(AdamW):
    """AdamW for all of `params` but the `matrices`, which get Muon's update, at a rate of their own.

    A gradient changes a matrix strongly in a few directions and weakly in the rest. Muon averages a matrix's
    gradients and takes a step in which the directions are much more alike (Jordan et al., Muon, 2024). A
    convolution's weight is a matrix with a row for each output channel.
    """

    def __init__(self, params, matrices, lr, muon_lr, betas=(0.9, 0.999), weight_decay=0.01, momentum=0.9,
                 fused=None):
        """Raises ValueError for a matrix that is not one of `params`."""
        ours, params = {id(weight) for weight in matrices}, list(params)
        if ours - {id(weight) for weight in params}:
            raise ValueError("Muon changes parameters, and a weight that is computed from others, as by "
                             "weight_norm, is none: leave out muon_lr, or what computes the weight")
        super().__init__([{"params": [weight for weight in params if id(weight) not in ours]},
                          {"params": matrices, "lr": muon_lr, "momentum": momentum}],
                         lr, betas, weight_decay=weight_decay, fused=fused)

    @torch.no_grad()
    def step(self, closure=None):
        """Make one step; return the loss that `closure`, if given, computes with its gradients."""
        with torch.enable_grad():
            loss = closure() if closure else None
        muon, gradients = self.param_groups[1], {}
        for weight in muon["params"]:
            if weight.grad is None:
                continue
            state = self.state[weight]
            if not state:   # AdamW, loading a state, looks for a count of steps
                state |= {"step": torch.zeros(()), "momentum_buffer": torch.zeros_like(weight)}
            average = state["momentum_buffer"].lerp_(weight.grad, 1 - muon["momentum"])
            ahead = weight.grad.lerp(average, muon["momentum"])   # Nesterov's momentum
            direction = orthogonal(ahead.flatten(1))
            scale = math.sqrt(max(1, direction.shape[0] / direction.shape[1]))
            weight.mul_(1 - muon["lr"] * muon["weight_decay"])
            weight.sub_(direction.view_as(weight), alpha=muon["lr"] * scale)
            gradients[weight], weight.grad = weight.grad, None   # AdamW leaves alone what has no gradient
        # PyTorch wraps the step of each optimizer in its hooks: they run around this one, and not again
        inspect.unwrap(AdamW.step, stop=lambda step: not hasattr(step, "hooked"))(self)
        for weight, gradient in gradients.items():
            weight.grad = gradient
        return loss


def orthogonal(matrix, steps=3):
    """Return a matrix with the directions of `matrix`, but with singular values that are much more alike.

    Newton-Schulz iteration towards the nearest orthogonal matrix, with the coefficients of Jordan et al.,
    Muon, 2024, which are for few steps and leave the values near 1.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.T if tall else x
