"""Forward and backward pass of a training step as one CUDA graph.

A step starts some twenty thousand small kernels, which takes the host longer than the GPU needs
for them unless a batch is large. Recorded once, they are started by one call
(https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs). Nothing in a step depends on
numbers that the host would have to read (``tests/test_devices.py``), so a recording is true of
every batch of its shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

WARM_UP = 3  # runs before recording: kernels compile, caches fill, workspaces are made

Pass = Callable[..., Tensor]  # leaves gradients, returns figures


class StepGraph:
    """A pass recorded for the shapes of its ``inputs``.

    Gradients and figures lie in the graph's own memory: they hold until the next replay.
    """

    def __init__(self, step: Pass, parameters: Sequence[nn.Parameter], *inputs: Tensor) -> None:
        self._inputs = [given.clone() for given in inputs]
        self._parameters = list(parameters)

        def run() -> Tensor:
            for parameter in self._parameters:
                parameter.grad = None  # so that the pass writes new ones instead of adding to them
            return step(*self._inputs)

        self._replay, self._figures = record(run)
        self._gradients = [parameter.grad for parameter in self._parameters]

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Figures of the pass; the parameters have its gradients."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given, non_blocking=True)
        self._replay()
        # others, of another recording, may be there
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return self._figures


def record(run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """What replays ``run`` on the present CUDA device, and the tensor that each replay fills."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # of this thread alone: another one pins memory for the next batch meanwhile
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        filled = run()
    return graph.replay, filled
