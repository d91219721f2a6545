"""The scan of a feature map, in squares."""

from __future__ import annotations

import torch

from mambaic.config import VSSConfig
from mambaic.nn import vss
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


def test_squares_of_equal_size_are_scanned_together_on_a_gpu(monkeypatch):
    monkeypatch.setattr(vss, "squares_at_once", lambda positions, device: 100)
    torch.manual_seed(0)
    scan = SS2D(8, VSSConfig(), span=4).eval()
    u = torch.randn(2, 13, 10, 8)
    calls = []
    scan.in_proj.register_forward_pre_hook(lambda layer, inputs: calls.append(inputs[0].shape[:3]))
    with torch.no_grad():
        found = scan(u)
        assert sorted(calls) == [(2, 1, 2), (4, 1, 4), (6, 4, 2), (12, 4, 4)]
        for top in range(0, 13, 4):
            for left in range(0, 10, 4):
                square = slice(None), slice(top, top + 4), slice(left, left + 4)
                torch.testing.assert_close(found[square], scan(u[square]))


def test_gradients_pass_through_squares():
    torch.manual_seed(0)
    scan = SS2D(4, VSSConfig(), span=3).double()
    u = torch.randn(1, 5, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(scan, u)
