"""Changes of resolution, once: rearrangement plus convolution, no striding loss."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from mambaic.nn.products import product


class Down(nn.Module):
    """(B, Cin, H, W) -> (B, Cout, H/factor, W/factor): pixel-unshuffle, then 1x1 convolution,
    computed as a convolution of patches."""

    def __init__(self, c_in: int, c_out: int, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(c_in * factor**2, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.conv.weight.view(len(self.conv.weight), -1, self.factor, self.factor)
        return F.conv2d(x, patches, self.conv.bias, self.factor)


class Up(nn.Module):
    """(B, Cin, H, W) -> (B, Cout, H*factor, W*factor): convolution, an activation if there is
    one, then pixel-shuffle."""

    def __init__(self, c_in: int, c_out: int, factor: int = 2, kernel: int = 1) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(c_in, c_out * factor**2, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, act: nn.Module | None = None) -> Tensor:
        return F.pixel_shuffle(product(self.conv, x, act=act), self.factor)
