"""Every backend against the float64 reference: values and all gradients."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from interpreted import assert_parity

from mambaic_kernels import KernelUnavailable, available, pick, selective_scan, ss2d_scan
from mambaic_kernels.scan.projected import projected_scan

NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias")
TOLERANCE = {torch.float32: 2e-5}
SHAPES = [(2, 5, 7, 19, 3), (1, 1, 1, 4, 1), (1, 13, 11, 33, 4), (1, 3, 90, 8, 16)]


def map_operands(shape, seed=0):
    batch, height, width, channels, N = shape
    g = torch.Generator().manual_seed(seed)
    grid = (batch, height, width)
    return [
        torch.randn(*grid, channels, generator=g),
        torch.randn(*grid, 4, channels, generator=g),
        -torch.rand(4, channels, N, generator=g) * 2,
        torch.randn(*grid, 4, N, generator=g),
        torch.randn(*grid, 4, N, generator=g),
        torch.randn(4, channels, generator=g),
        torch.randn(4, channels, generator=g),
    ]


def check(function, operands, names, **options):
    """Output and gradients of ``options`` equal the float64 reference's within the tolerance."""
    fast = [t.clone().requires_grad_() for t in operands]
    exact = [t.double().requires_grad_() for t in operands]
    backend = options.pop("backend")
    y = function(*fast, backend=backend, **options)
    expected = function(*exact, backend="reference", **options)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(9))
    y.backward(grad)
    expected.backward(grad.double())
    pairs = [("y", y, expected)]
    pairs += [(n, a.grad, b.grad) for n, a, b in zip(names, fast, exact, strict=True)]
    for name, a, b in pairs:
        error = (a.double() - b).abs().max() / (1e-3 + b.abs().max())
        assert error < TOLERANCE[torch.float32], f"{name}: {error:.1e}"


@pytest.fixture(autouse=True)
def _poisoned_memory(monkeypatch):
    """Fresh memory holds NaN, so that what is never written shows."""
    empty_like = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: empty_like(*a, **k).fill_(torch.nan))


@pytest.mark.parametrize("lines", ["flat", "reset"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ss2d_cpu_matches_reference(shape, lines):
    check(ss2d_scan, map_operands(shape), NAMES, backend="cpu", lines=lines)


def test_ss2d_cpu_matches_reference_without_softplus():
    operands = map_operands((2, 5, 7, 19, 3))
    operands[1] = operands[1].abs()
    operands[6] = operands[6].abs()
    check(ss2d_scan, operands, NAMES, backend="cpu", lines="reset", delta_softplus=False)


def test_ss2d_cpu_matches_reference_on_several_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        check(ss2d_scan, map_operands((2, 24, 24, 70, 4)), NAMES, backend="cpu", lines="reset")
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("lines", ["flat", "reset"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_time_steps_are_made_on_the_way(shape, lines):
    u, _, A, B, C, D, bias = map_operands(shape)
    generator = torch.Generator().manual_seed(1)
    factors = torch.randn(*u.shape[:3], 4, 3, generator=generator)
    weight = torch.randn(4, 3, u.shape[-1], generator=generator)
    delta = torch.einsum("bhwkr,krd->bhwkd", factors, weight)
    exact = [t.double() for t in (u, delta, A, B, C, D, bias)]
    expected = ss2d_scan(*exact, lines=lines, backend="reference")
    with torch.no_grad():
        operands = torch.cat([factors, B, C], dim=-1)
        found = projected_scan(u, operands, weight, bias, A, D, lines)
    error = (found - expected).abs().max() / expected.abs().max()
    assert error < TOLERANCE[torch.float32]


@pytest.mark.parametrize("length", [1, 63, 200])
@pytest.mark.parametrize("groups", [1, 2])
def test_selective_scan_cpu_matches_reference(length, groups):
    g = torch.Generator().manual_seed(1)
    batch, channels, N = 2, 6, 4
    operands = [
        torch.randn(batch, channels, length, generator=g),
        torch.randn(batch, channels, length, generator=g),
        -torch.rand(channels, N, generator=g),
        torch.randn(batch, groups, N, length, generator=g),
        torch.randn(batch, groups, N, length, generator=g),
        torch.randn(channels, generator=g),
        torch.randn(batch, channels, length, generator=g),
        torch.randn(channels, generator=g),
    ]
    names = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
    check(selective_scan, operands, names, backend="cpu", delta_softplus=True)


def test_last_state_matches_reference():
    g = torch.Generator().manual_seed(2)
    u, delta = torch.randn(2, 3, 17, generator=g), torch.rand(2, 3, 17, generator=g)
    A, B = -torch.rand(3, 2, generator=g), torch.randn(2, 2, 17, generator=g)
    _, fast = selective_scan(u, delta, A, B, B, return_last_state=True, backend="cpu")
    _, exact = selective_scan(u, delta, A, B, B, return_last_state=True, backend="reference")
    assert torch.allclose(fast, exact, atol=1e-5)


TRITON_CHECK = """
import mambaic_kernels.scan.triton as kernels
from test_scans import NAMES, check, map_operands, ss2d_scan
kernels.CHUNK = {chunk}
check(ss2d_scan, map_operands({shape}), NAMES, backend="triton", lines={lines!r})
print("parity holds")
"""


@pytest.mark.parametrize(
    ("shape", "lines", "chunk"),
    [((1, 3, 5, 5, 2), "reset", 256), ((1, 3, 7, 4, 3), "flat", 16)],
    ids=["lines", "chunks"],
)
def test_triton_matches_reference(shape, lines, chunk):
    assert_parity(TRITON_CHECK, chunk=chunk, shape=shape, lines=lines)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("lines", ["flat", "reset"])
def test_triton_matches_reference_on_cuda(lines):
    operands = [t.cuda() for t in map_operands((2, 33, 70, 48, 4))]
    y = ss2d_scan(*operands, lines=lines, backend="triton")
    expected = ss2d_scan(*[t.double() for t in operands], lines=lines, backend="reference")
    assert (y - expected).abs().max() / expected.abs().max() < TOLERANCE[torch.float32]


def test_backend_that_ran_is_the_one_asked_for(monkeypatch):
    import mambaic_kernels.scan.cpu as cpu

    called = []
    original = cpu.scan_forward
    monkeypatch.setattr(cpu, "scan_forward", lambda *a: called.append(1) or original(*a))
    operands = map_operands((1, 2, 2, 4, 1))
    ss2d_scan(*operands, backend="reference")
    assert not called
    ss2d_scan(*operands, backend="cpu")
    ss2d_scan(*operands)
    assert len(called) == 2


def test_missing_backend_raises_and_names_the_way_to_get_it():
    if "mamba_ssm" in available():
        pytest.skip("mamba_ssm is installed")
    with pytest.raises(KernelUnavailable, match="pip install"):
        pick("mamba_ssm", torch.device("cpu"))
    with pytest.raises(ValueError, match="not one of"):
        pick("fast", torch.device("cpu"))


def test_operator_passes_opcheck():
    u = torch.randn(1, 6, 4, requires_grad=True)
    dt = torch.rand(1, 6, 4, 4, requires_grad=True)
    A = (-torch.rand(4, 2, 4)).requires_grad_()
    B, C = (torch.randn(1, 6, 4, 2, requires_grad=True) for _ in range(2))
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    arguments = (u, dt, A, B, C, 2, 3, True, "cpu")
    torch.library.opcheck(torch.ops.mambaic.scan, arguments, test_utils=checks)
    bias = torch.randn(4, 4, requires_grad=True)
    torch.library.opcheck(torch.ops.mambaic.positive_steps, (dt, bias), test_utils=checks)


def test_concurrent_callers_get_their_own_results():
    jobs = [map_operands((1, 9, 9, 40, 4), seed) for seed in range(8)]
    alone = [ss2d_scan(*job, backend="cpu") for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: ss2d_scan(*job, backend="cpu"), jobs))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
