"""SSIMULACRA2: structural errors at six scales in the XYB colour space, weighed as people judge.

[Sneyers2023] SSIMULACRA 2.1: the definition, with libjxl's ``ssimulacra2`` as its program.
[Charalampidis2016] Recursive Implementation of the Gaussian Filter Using Truncated Cosine
Functions, IEEE Transactions on Signal Processing 64(14): the blur, here by its impulse response.

Three errors per pixel: structure (1 - SSIM, its luma term without the division by brightness),
edges that only the decoded picture has (ringing, blocks), and edges that it lost (blur). Their
means and 4-norms at every scale in every channel are 108 numbers; their weighted sum is the score.

Scores are within 0.1 of that program's, but for nearly lossless pictures: its recursive filter
rounds, which takes up to 0.2 from a score of 80 and 0.7 from one of 93
(``scripts/ssimulacra2_pairs.py``).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

MIN_SIDE = 8  # pixels, of the picture, and of a scale that has another below it
SCALES = 6
STABILITY = 0.0009  # keeps the quotient of flat regions near 1

# one half of the symmetric kernel; sum 1, variance 1.5^2
BLUR = (0.264621105, 0.212928592, 0.109335373, 0.0360111147, 0.00941436781)

# linear RGB to the responses of the three cones
ABSORBANCE = (
    (0.30, 0.622, 0.078),
    (0.23, 0.692, 0.078),
    (0.24342268924547819, 0.20476744424496821, 0.5518098665095536),
)
BIAS = 0.0037930732552754493

# six scales of X, of Y and of B; columns: means of structure, artefacts, loss; their 4-norms
WEIGHTS = (
    (0, 0.0007376606707, 0, 0, 0.0007793481683, 0),  # X
    (0, 0.000437115573, 0, 1.104172643, 0.0006628483413, 0.0001523163278),
    (0, 0.001640643746, 0, 1.842245552, 11.4411726, 0),
    (0.0007989109436, 0.0001768164381, 0, 1.878759498, 10.94906991, 0),
    (0.0007289346992, 0.9677937081, 0, 0.0001400342429, 0.9981766978, 0.0003194975593),
    (0.0004550992114, 0, 0, 0.001364876616, 0, 0),
    (0, 0, 0, 7.466890328, 0, 17.44583398),  # Y
    (0.0006235601634, 0, 0, 6.683678146, 0.0003772440798, 1.027889938),
    (225.205153, 0, 0, 19.21323819, 0.001140152459, 0.001237755636),
    (176.393176, 0, 0, 24.43301, 0.2852080261, 0.0004485436924),
    (0, 0, 0, 34.77906344, 44.83562533, 0),
    (0, 0, 0, 0, 0, 0),
    (0, 0.0008680556573, 0, 0, 0, 0),  # B
    (0, 0.0005313191874, 0, 0.0001653381416, 0, 0),
    (0, 0, 0, 0.0004179171803, 0.001729082823, 0),
    (0.002082700585, 0, 0, 8.826982765, 23.19243344, 0),
    (95.10804988, 0.9863978034, 0.9834382792, 0.001228640505, 171.2667256, 0.9807858872),
    (0, 0, 0, 0.0005130064589, 0, 0.0001085405786),
)


def ssimulacra2(reference: np.ndarray, decoded: np.ndarray) -> float | None:
    """Score of ``decoded`` against ``reference``, both (H, W, 3) uint8 sRGB: 100 for equal
    pictures, 90 visually lossless, 70 high, 50 medium, 30 low quality; below 0 for very poor ones.
    None if a side is shorter than ``MIN_SIDE``."""
    if min(reference.shape[:2]) < MIN_SIDE:
        return None
    with torch.no_grad():
        return float(score(_unit(reference), _unit(decoded)))


def _unit(pixels: np.ndarray) -> torch.Tensor:
    # contiguous, so that equal pixels give equal powers
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
    return torch.from_numpy(planes) / 255


def score(reference: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
    """The same of float sRGB in [0, 1], each (3, H, W); a scalar."""
    a, b = _linear(reference), _linear(decoded)
    errors = []
    for scale in range(SCALES):
        if min(a.shape[1:]) < MIN_SIDE:
            break
        if scale:
            a, b = _halved(a), _halved(b)
        pairs = zip(_xyb(a), _xyb(b), strict=True)
        errors.append(torch.stack([_errors(x, y) for x, y in pairs]))
    # the published program reads its weights without gaps when a small picture lacks scales
    found = torch.stack(errors, dim=1).flatten()
    weights = found.new_tensor(WEIGHTS).flatten()[: found.numel()]
    return scaled((weights * found).sum())


def scaled(total: torch.Tensor) -> torch.Tensor:
    """The weighted sum on the scale of scores: a cubic, then a power."""
    total = 0.9562382616834844 * total
    cubic = (
        2.326765642916932 * total
        - 0.020884521182843837 * total**2
        + 6.248496625763138e-05 * total**3
    )
    return 100 - 10 * cubic.clamp(min=0) ** 0.6276336467831387


def _linear(srgb: torch.Tensor) -> torch.Tensor:
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _halved(x: torch.Tensor) -> torch.Tensor:
    """Means of 2x2 pixels; an odd last row or column stands twice."""
    height, width = x.shape[1:]
    padded = F.pad(x[None], (0, width % 2, 0, height % 2), mode="replicate")
    return F.avg_pool2d(padded, 2)[0]


def _xyb(linear: torch.Tensor) -> torch.Tensor:
    """Opponent colours, shifted and stretched to about [0, 1]."""
    red, green, blue = linear
    # no matrix product: its sums differ with the alignment of memory
    cones = torch.stack([r * red + g * green + b * blue + BIAS for r, g, b in ABSORBANCE])
    long, middle, short = cones.clamp(min=0) ** (1 / 3) - BIAS ** (1 / 3)
    y = (long + middle) / 2
    return torch.stack([7 * (long - middle) + 0.42, y + 0.01, short - y + 0.55])


def _blur(planes: torch.Tensor) -> torch.Tensor:
    """(N, H, W) along both sides; zero beyond the borders."""
    return _blur_along(_blur_along(planes, 2), 1)


def _blur_along(planes: torch.Tensor, dim: int) -> torch.Tensor:
    """By sums of shifted planes: on CPUs eight times as fast as torch's convolution."""
    reach, length = len(BLUR) - 1, planes.shape[dim]
    border = (reach, reach) if dim == 2 else (0, 0, reach, reach)
    padded = F.pad(planes, border)
    out = BLUR[0] * planes
    for offset, tap in enumerate(BLUR[1:], start=1):
        for start in (reach - offset, reach + offset):
            out = out.add(padded.narrow(dim, start, length), alpha=tap)
    return out


def _errors(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Six errors of one channel at one scale, (H, W) each, in the order of ``WEIGHTS``."""
    change = b - a
    mean_a, mean_change, squares, energy = _blur(
        torch.stack([a, change, a * a + b * b, change * change])
    )
    mean_b = mean_a + mean_change
    variances = squares - mean_a**2 - mean_b**2 + STABILITY
    # 1 - luma * structure of SSIM, with nothing subtracted that is nearly equal
    gap = mean_change**2
    changed = energy - gap
    structure = ((changed + gap * (variances - changed)) / variances).clamp(min=0)
    edges = (1 + (b - mean_b).abs()) / (1 + (a - mean_a).abs()) - 1
    maps = torch.stack([structure, edges.clamp(min=0), (-edges).clamp(min=0)]).flatten(1)
    return torch.cat([maps.mean(1), (maps**4).mean(1) ** 0.25])
