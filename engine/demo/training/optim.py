"""Muon for the matrices, Adam for the rest."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonalise(gradient: Tensor, steps: int = 5) -> Tensor:
    """Bring all singular values of a matrix (or a stack of them) near one, by Newton-Schulz."""
    x = gradient / (gradient.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    wide = x.shape[-2] > x.shape[-1]
    if wide:
        x = x.mT
    for _ in range(steps):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if wide else x


class Muon(torch.optim.Optimizer):
    """Momentum whose updates are orthogonal matrices (Jordan et al., 2024)."""

    def __init__(self, matrices: Iterable[Tensor], rate: float, momentum: float = 0.95) -> None:
        super().__init__(list(matrices), {"lr": rate, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Move every matrix."""
        for group in self.param_groups:
            for matrix in group["params"]:
                state = self.state[matrix]
                average = state.setdefault("average", torch.zeros_like(matrix))
                average.lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonalise(matrix.grad.lerp(average, group["momentum"]))
                tall = max(1.0, matrix.shape[-2] / matrix.shape[-1]) ** 0.5
                matrix.add_(update, alpha=-group["lr"] * tall)


def optimisers(
    network: nn.Module, muon_rate: float, adam_rate: float
) -> list[torch.optim.Optimizer]:
    """The two optimisers of a network."""
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in network.named_parameters():
        is_matrix = name.startswith("layers") and parameter.ndim >= 2
        chosen = is_matrix and "bias" not in name and "router" not in name
        (matrices if chosen else others).append(parameter)
    adam = torch.optim.Adam(others, lr=adam_rate, betas=(0.9, 0.98), eps=1e-6)
    return [Muon(matrices, muon_rate), adam]
