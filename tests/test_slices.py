"""Slices of a step: a later one is told what the earlier ones turned out to be, and where."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mambaic.coding.priors import Prior
from mambaic.coding.schedule import Lattice, Site
from mambaic.config import PRESETS
from mambaic.errors import ConfigError
from mambaic.slices import MAGNITUDES, Slices, surprises

SIZE = (6, 8)
FIRST = 16  # channel of the group


def make_slices(*, alive: bool) -> Slices:
    torch.manual_seed(0)
    slices = Slices(8, 4, 5)
    if alive:
        for parameter in slices.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return slices.requires_grad_(False)


def priors_seen(slices: Slices, latents: torch.Tensor, lattice: Lattice) -> list[Prior]:
    """The priors under which ``latents`` (1, 8, h, w) are coded, slice by slice."""
    generator = torch.Generator().manual_seed(1)
    prior = Prior(*torch.randn(2, *latents.shape, generator=generator))
    mask = torch.zeros(SIZE)
    for grid in lattice.value:
        mask[grid.slices] = 1
    seen: list[Prior] = []

    def code(site: Site, own: Prior) -> torch.Tensor:
        assert site.lattice is lattice
        assert own.mean.shape == own.log_scale.shape == (1, 2, *SIZE)
        seen.append(own)
        return latents[:, site.channels.start - FIRST : site.channels.stop - FIRST] * mask

    coded = slices.code(Site("y", slice(FIRST, FIRST + 8), lattice), prior, code)
    assert torch.equal(coded, latents * mask)
    return seen


def test_new_slices_change_no_prior():
    latents = torch.randn(1, 8, *SIZE)
    seen = priors_seen(make_slices(alive=False), latents, Lattice.ANCHOR)
    other = priors_seen(make_slices(alive=False), latents + 1, Lattice.ANCHOR)
    assert len(seen) == 4
    for own, same in zip(seen, other, strict=True):
        assert torch.equal(own.mean, same.mean)
        assert torch.equal(own.log_scale, same.log_scale)


@pytest.mark.parametrize("lattice", Lattice)
def test_a_latent_tells_later_slices_at_its_place_alone(lattice):
    slices = make_slices(alive=True)
    latents = torch.randn(1, 8, *SIZE, generator=torch.Generator().manual_seed(2))
    before = priors_seen(slices, latents, lattice)
    row, column, _ = lattice.value[0]
    changed = latents.clone()
    changed[0, 3, row, column] += 1.0  # of the second slice
    after = priors_seen(slices, changed, lattice)
    for index in range(4):
        for name in ("mean", "log_scale"):
            moved = getattr(after[index], name) != getattr(before[index], name)
            at_place = moved[..., row, column]
            assert bool(at_place.any()) == (index >= 2), (index, name)
            assert moved.sum() == at_place.sum()


def test_surprises_are_what_they_say():
    """A deviation of two scales; one far out is bounded; one where next to nothing is expected."""
    coded = torch.tensor([5.0, 103.0, 0.0]).view(1, 1, 3)
    mean = torch.tensor([1.0, 3.0, 0.0]).view(1, 1, 3)
    log_scale = torch.tensor([math.log(2.0), 0.0, -50.0]).view(1, 1, 3)
    deviation, magnitudes = surprises(coded, Prior(mean, log_scale))
    assert deviation.flatten().tolist() == pytest.approx([2.0, 4.0, 0.0])
    energy, expected, absolute = magnitudes.view(MAGNITUDES, 3).tolist()
    assert energy == pytest.approx([math.log1p(16 / 4.25), math.log1p(1e4 / 1.25), 0.0])
    assert expected == pytest.approx([0.8, 0.5, 0.0])
    assert absolute == pytest.approx([2.0, 4.0, 0.0])


def test_groups_that_cannot_be_cut_are_refused():
    with pytest.raises(ConfigError, match="slices = 3"):
        replace(PRESETS["unit"], slices=3)
