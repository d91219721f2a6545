"""Schedule and the three interpreters, without networks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mambaic.coding.decoder import Decoder
from mambaic.coding.encoder import Encoder
from mambaic.coding.estimator import Estimator, NoiseEstimator, TableEstimator
from mambaic.coding.likelihood import WHOLE_SLOPE, Prior, ScaleMixture
from mambaic.coding.quantiser import Search, response
from mambaic.coding.sites import CHECKERBOARD, COARSE_TO_FINE, Lattice, Site
from mambaic.coding.tables import (
    LOG_MIN,
    LOG_STEP,
    RANGES,
    ROUNDED,
    SPACING,
    TCQ,
    build_tables,
    values,
)
from mambaic.errors import CorruptStream

EVEN, ODD = TCQ, TCQ + RANGES  # a class of states of each quantiser
TABLES = build_tables(0.85, 2.2)
SHAPE = ScaleMixture(torch.tensor(0.85).double(), torch.tensor(2.2).double(), TABLES)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from([CHECKERBOARD, COARSE_TO_FINE]))
def test_lattices_visit_every_position_once_and_in_order(rows, columns, lattices):
    size = (4 * rows, 4 * columns)
    positions = torch.arange(1.0, 1 + math.prod(size)).view(1, 1, *size)
    back = []
    for lattice in lattices:
        taken = lattice.take(positions)
        assert torch.equal(taken.flatten(), taken.flatten().sort().values)
        back.append(lattice.put(taken, size))
    assert torch.equal(sum(back), positions)


def random_step(
    seed: int, height: int = 4, width: int = 8, lattice: Lattice = Lattice.EVERY
) -> tuple[torch.Tensor, Prior]:
    """Latents (1, 6, height, width), and their prior on a lattice."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(1, 6, height, width, generator=generator) * 3
    log_scale = torch.rand(1, 6, height, width, generator=generator) * 6 - 2.5
    noise = torch.randn(mean.shape, generator=generator)
    y = mean + noise * torch.exp(log_scale)
    return y, Prior(lattice.take(mean), lattice.take(log_scale))


@pytest.mark.parametrize("lattice", Lattice)
@pytest.mark.parametrize("latent", ["y", "z"])
def test_three_interpreters_agree(latent, lattice):
    y, prior = random_step(0, lattice=lattice)
    site = Site(latent, slice(0, 6), lattice)
    encoder = Encoder({latent: y}, TABLES)
    encoded = encoder.code_alone(site, prior)
    payload, _ = encoder.finish()
    decoder = Decoder(payload, TABLES)
    estimator = Estimator({latent: y}, SHAPE)
    assert torch.equal(decoder.code_alone(site, prior), encoded)
    decoder.finish()
    assert torch.allclose(estimator.code_alone(site, prior), encoded, atol=1e-5)


@pytest.mark.parametrize("spread", [1, 500])
def test_estimate_is_what_the_coder_writes(spread):
    """Also of residuals far beyond their tables, which are escaped."""
    y, prior = random_step(4, 40, 40)
    site = Site("y", slice(0, 6))
    mean = site.lattice.put(prior.mean, (40, 40))
    y = mean + (y - mean) * spread
    encoder, estimator = Encoder({"y": y}, TABLES), Estimator({"y": y}, SHAPE)
    encoder.code_alone(site, prior)
    estimator.code_alone(site, prior)
    payload, bits = encoder.finish()
    assert float(estimator.bits().sum()) == pytest.approx(bits, rel=1e-5)
    assert abs(8 * len(payload) - bits) < 0.001 * bits + 64


@pytest.mark.parametrize("latent", ["y", "z"])
def test_values_are_of_the_quantiser(latent):
    y, prior = random_step(1, lattice=Lattice.NON_ANCHOR)
    prior = Prior(prior.mean, prior.log_scale.clamp(min=0.0))
    site = Site(latent, slice(0, 6), Lattice.NON_ANCHOR)
    y_hat = Encoder({latent: y}, TABLES).code_alone(site, prior)
    y = site.take(y)
    if latent == "z":
        assert torch.allclose(y_hat, torch.round(y - prior.mean) + prior.mean, atol=1e-5)
        return
    halves = (y_hat - prior.mean) / (SPACING / 2)
    assert torch.allclose(halves, torch.round(halves), atol=1e-4)
    assert ((y_hat - y).abs() < 1.5 * SPACING).all()


def squared_error_and_bits(latent: str, scale: float) -> tuple[float, float]:
    """A latent of Gaussian residuals of one scale, by its quantiser."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(1, 4, 64, 64, generator=generator, dtype=torch.float64) * scale
    site = Site(latent, slice(0, 4))
    rows = site.take(y)
    prior = Prior(torch.zeros_like(rows), torch.full_like(rows, math.log(scale)))
    shape = ScaleMixture(torch.tensor(1.0).double(), torch.tensor(1.0).double(), None)
    estimator = Estimator({latent: y}, shape)
    y_hat = estimator.code_alone(site, prior)
    return float((y_hat - rows).square().mean()), float(estimator.bits().sum()) / y.numel()


def test_trellis_gains_over_whole_numbers_what_theory_grants():
    """At a high rate 256 states have a granular gain of 1.33 dB [Marcellin1990, Table I]; of that
    the tables, which are for rate-aware choices too, may lose a little."""
    whole = [squared_error_and_bits("z", scale) for scale in (8.0, 16.0)]
    error, bits = squared_error_and_bits("y", 8.0 * SPACING)
    (whole_error, whole_bits), _ = whole
    # in units of each spacing; 6.02 dB are a bit
    decibels = 10 * math.log10(whole_error / (error / SPACING**2)) + 6.02 * (whole_bits - bits)
    assert 1.2 < decibels < 1.45


def test_a_path_leads_on_through_the_sub_groups_of_a_step():
    y, prior = random_step(5, 4, 8)
    sites = Site("y", slice(0, 6)).split(2)
    priors = [
        Prior(prior.mean[..., part], prior.log_scale[..., part].clamp(min=0.0))
        for part in (slice(0, 3), slice(3, 6))
    ]
    encoder = Encoder({"y": y}, TABLES)
    coded = encoder.code(sites, lambda values: priors[len(values)])
    payload, _ = encoder.finish()
    decoder = Decoder(payload, TABLES)
    decoded = decoder.code(sites, lambda values: priors[len(values)])
    assert all(map(torch.equal, decoded, coded))
    decoder.finish()
    # a site of its own begins at state 0, in which a decoder cannot read the second one
    apart = Decoder(payload, TABLES)
    assert torch.equal(apart.code_alone(sites[0], priors[0]), coded[0])
    with pytest.raises(CorruptStream):
        apart.code_alone(Site("y", slice(3, 6)), priors[1])


@pytest.mark.parametrize("tables", [None, TABLES], ids=["noise", "tables"])
def test_estimate_in_training_is_differentiable_in_latents_means_and_scales(tables):
    y, prior = random_step(3)
    leaves = [t.clone().requires_grad_() for t in (y, prior.mean, prior.log_scale)]
    kind = NoiseEstimator if tables is None else TableEstimator
    estimator = kind({"y": leaves[0]}, ScaleMixture(SHAPE.weight, SHAPE.ratio, tables))
    y_hat = estimator.code_alone(Site("y", slice(0, 6)), Prior(leaves[1], leaves[2]))
    assert y_hat.shape == prior.mean.shape
    estimator.bits().sum().backward()
    for leaf in leaves:
        assert leaf.grad is not None
        assert torch.isfinite(leaf.grad).all()
    coded = torch.ones(prior.mean.shape, dtype=torch.bool)
    if tables is not None:  # what a file leaves out costs nothing, wherever it is
        coded = ~SHAPE.skipped(prior.log_scale)
    assert (leaves[2].grad != 0).float().mean() > 0.9
    assert (leaves[1].grad[coded] != 0).float().mean() > 0.9
    assert not leaves[1].grad[~coded].any()


def test_in_training_latents_that_files_leave_out_follow_their_means():
    y, prior = random_step(4)
    leaves = [t.clone().requires_grad_() for t in (y, prior.mean)]
    estimator = TableEstimator({"y": leaves[0]}, SHAPE)
    y_hat = estimator.code_alone(Site("y", slice(0, 6)), Prior(leaves[1], prior.log_scale))
    y_hat.sum().backward()
    skipped = SHAPE.skipped(prior.log_scale)
    assert 0.1 < skipped.float().mean() < 0.9
    assert torch.equal(y_hat[skipped], prior.mean[skipped])
    assert (leaves[1].grad[skipped] == 1).all()
    (from_y,) = Site("y", slice(0, 6)).take(leaves[0].grad).unbind()
    assert not from_y[skipped[0]].any()
    assert torch.allclose(from_y + leaves[1].grad[0], torch.ones(()), atol=1e-5)


@pytest.mark.parametrize("index", [8, 17, 24])
def test_what_a_search_finds_follows_residuals_as_training_expects(index):
    """Means of the values found, within an eighth of a spacing over ranges of a sixteenth."""
    count = 60_000
    scale = float(torch.exp(torch.tensor(LOG_MIN + index * LOG_STEP))) / SPACING
    residual = torch.randn(count, generator=torch.Generator().manual_seed(index)).double() * scale
    indices = np.full((1, count), index)
    search = Search(1, TABLES.rates, TABLES.skip)
    operands = (residual * SPACING).numpy()[None], indices
    symbols, contexts = search.find(Site("y", slice(0, 1)), *operands)
    found = values(torch.from_numpy(symbols[0]).double(), torch.from_numpy(contexts[0])) / SPACING
    steps = torch.linspace(0, 1.5, 1501, dtype=torch.float64)
    expected = torch.cumulative_trapezoid(response(steps), steps)
    for start in np.arange(0, 1.5, 1 / 16):
        inside = (residual.abs() >= start) & (residual.abs() < start + 1 / 16)
        if inside.sum() < 200:
            continue
        measured = (found * residual.sign())[inside].mean()
        places = (residual[inside].abs() * 1000).long()
        assert float(measured) == pytest.approx(float(expected[places].mean()), abs=0.125)


@pytest.mark.parametrize("lost", ["latent", "scale"])
def test_in_training_a_number_that_is_none_makes_its_picture_cost_none(lost):
    """A step with such a loss is skipped; nothing may be read from where it would point."""
    y, prior = random_step(3)
    y, mean, log_scale = (torch.cat([x, x]) for x in (y, prior.mean, prior.log_scale))
    (y if lost == "latent" else log_scale)[1].flatten()[7] = torch.nan
    estimator = TableEstimator({"y": y}, SHAPE)
    estimator.code_alone(Site("y", slice(0, 6)), Prior(mean, log_scale))
    assert estimator.bits().isfinite().tolist() == [True, False]


def test_bits_in_training_are_those_of_files():
    y, prior = random_step(5, 60, 60)
    shape = ScaleMixture(SHAPE.weight, SHAPE.ratio, replace(TABLES, skip=0))
    bits = []
    for kind in (Estimator, TableEstimator):
        estimator = kind({"y": y}, shape)
        estimator.code_alone(Site("y", slice(0, 6)), prior)
        bits.append(float(estimator.bits()))
    assert bits[1] == pytest.approx(bits[0], rel=0.01)


@pytest.mark.parametrize("context", [ROUNDED, EVEN, ODD])
def test_slopes_lead_from_one_value_to_the_next(context):
    """In the middle of a scale index a symbol costs what its table says. Over the scale the slopes
    add up to the difference of two indices, over the residual to that of two values or a share."""
    shape = ScaleMixture(SHAPE.weight, SHAPE.ratio, TABLES)
    value, beside = (0.5, 1.0) if context == ODD else (1.0, 2.0 if context == ROUNDED else 1.5)
    rates = shape.rates
    first = rates[context, 20, 1]
    other = {ROUNDED: (ROUNDED, 2), EVEN: (ODD, 2), ODD: (EVEN, 1)}[context]

    def bits(quantised, log_scale, residual):
        return shape.relaxed_bits(
            *(torch.as_tensor(x).reshape(1) for x in (quantised, log_scale, context, residual))
        )

    centre = LOG_MIN + 20 * LOG_STEP
    assert float(bits(value, centre, value)) == pytest.approx(first, rel=1e-5)
    residual = torch.tensor(-(value + beside) / 2, requires_grad=True)
    log_scale = torch.tensor(centre + 0.5 * LOG_STEP, requires_grad=True)
    bits(-value, log_scale, residual).sum().backward()
    between = (rates[:, 20] + rates[:, 21]) / 2
    slope = (between[context, 1] - between[other]) / (beside - value)
    share = WHOLE_SLOPE if context == ROUNDED else 1.0
    assert float(residual.grad) == pytest.approx(share * slope, rel=1e-3)
    up = (rates[context, 21, 1] - first) / LOG_STEP
    assert float(log_scale.grad) == pytest.approx(up, rel=1e-3)
