"""The scan of a feature map, in squares."""

from __future__ import annotations

import torch

from mambaic.config import VSSConfig
from mambaic.nn.vss import SS2D


def test_scans_remember_a_square_and_nothing_beyond():
    torch.manual_seed(0)
    scan = SS2D(8, VSSConfig(), span=4).eval()
    u = torch.randn(2, 10, 7, 8)
    changed = u.clone()
    changed[:, 5, 2] += 1
    with torch.no_grad():
        differs = (scan(u) != scan(changed)).any(dim=-1)
        whole = SS2D(8, VSSConfig()).eval()
        whole.load_state_dict(scan.state_dict())
        torch.testing.assert_close(scan(u)[:, 4:8, :4], whole(u[:, 4:8, :4]))
        assert not torch.equal(scan(u), whole(u))
    expected = torch.zeros(2, 10, 7, dtype=torch.bool)
    expected[:, 5, :4] = expected[:, 4:8, 2] = True  # its row and its column within the square
    assert torch.equal(differs, expected)


def test_gradients_pass_through_squares():
    torch.manual_seed(0)
    scan = SS2D(4, VSSConfig(), span=3).double()
    u = torch.randn(1, 5, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(scan, u)
