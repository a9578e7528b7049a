"""GradCache (Gao et al. 2021, arXiv 2101.06983): a contrastive loss over more items than fit into one forward pass."""

from collections.abc import Callable

import torch
from torch import Tensor


def backward(chunks: int, encode: Callable[[int], Tensor], loss_of: Callable[[Tensor], Tensor]) -> None:
    """Add the gradients of ``loss_of`` (all vectors) to the parameters, with one chunk's graph in memory at a time.

    The vectors are made without a graph first; then the loss says how it depends on them, and each chunk is made again
    to carry that further. One chunk is made once.

    Args:
        chunks: How many.
        encode: The vectors of one chunk, shape (c, d); called twice with the same number it must give the same, dropout
            included.
        loss_of: A scalar from all vectors, shape (n, d).
    """
    if chunks == 1:
        loss_of(encode(0)).backward()  # type: ignore[no-untyped-call]
        return
    with torch.no_grad():
        parts = [encode(number) for number in range(chunks)]
    leaf = torch.cat(parts).requires_grad_()
    loss_of(leaf).backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    for number, slope in enumerate(torch.split(leaf.grad, [len(part) for part in parts])):
        encode(number).backward(slope)  # type: ignore[no-untyped-call]
