"""SubGroups of a step: a later one is told what the earlier ones turned out to be, and where."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mambaic.coding.likelihood import Prior
from mambaic.coding.sites import Lattice, Site
from mambaic.coding.step_coder import StepCoder
from mambaic.config import PRESETS
from mambaic.entropy_model.sub_groups import BOUNDS, MAGNITUDES, Normalise, SubGroups
from mambaic.errors import ConfigError

POSITIONS = 12
FIRST = 16  # channel of the group
GATES = 3


def make_sub_groups(*, alive: bool, gates: int = GATES) -> SubGroups:
    torch.manual_seed(0)
    slices = SubGroups(8, 4, 5, gates)
    if alive:
        for parameter in slices.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return slices.requires_grad_(False)


class Fixed(StepCoder):
    """Coder that serves given latents (1, n, 8) and remembers the priors of the sub-groups."""

    def __init__(self, latents: torch.Tensor) -> None:
        self.latents = latents
        self.priors: list[Prior] = []

    def _code_sub_group(self, site: Site, prior: Prior) -> torch.Tensor:
        assert site.lattice is Lattice.ANCHOR
        assert prior.mean.shape == prior.log_scale.shape == (1, POSITIONS, 2)
        self.priors.append(prior)
        return self.latents[..., site.channels.start - FIRST : site.channels.stop - FIRST]


def priors_seen(slices: SubGroups, latents: torch.Tensor, sign: float = 1.0) -> list[Prior]:
    """The priors under which ``latents`` are coded, sub-group by sub-group."""
    generator = torch.Generator().manual_seed(1)
    prior = Prior(*torch.randn(2, *latents.shape, generator=generator))
    gates = sign * torch.randn(1, POSITIONS, GATES, generator=generator)
    coder = Fixed(latents)
    site = Site("y", slice(FIRST, FIRST + 8), Lattice.ANCHOR)
    assert torch.equal(slices.code(site, prior, gates, coder), latents)
    return coder.priors


def some_latents() -> torch.Tensor:
    return torch.randn(1, POSITIONS, 8, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("gates", [0, GATES])
def test_new_sub_groups_change_no_prior(gates):
    seen = priors_seen(make_sub_groups(alive=False, gates=gates), some_latents())
    other = priors_seen(make_sub_groups(alive=False, gates=gates), some_latents() + 1)
    assert len(seen) == 4
    for own, same in zip(seen, other, strict=True):
        assert torch.equal(own.mean, same.mean)
        assert torch.equal(own.log_scale, same.log_scale)


@pytest.mark.parametrize("gates", [0, GATES])
def test_a_latent_tells_later_sub_groups_at_its_place_alone(gates):
    slices = make_sub_groups(alive=True, gates=gates)
    latents = some_latents()
    before = priors_seen(slices, latents)
    changed = latents.clone()
    changed[0, 5, 3] += 1.0  # of the second sub-group
    after = priors_seen(slices, changed)
    for index in range(4):
        for name in ("mean", "log_scale"):
            moved = getattr(after[index], name) != getattr(before[index], name)
            assert bool(moved[0, 5].any()) == (index >= 2), (index, name)
            assert moved.sum() == moved[0, 5].sum()


def test_gates_turn_what_deviations_say_of_means():
    """Means alone are gated; all of a correction but its ungated part changes sign."""
    slices = make_sub_groups(alive=True)
    for context in slices.contexts:
        torch.nn.init.zeros_(context.mean.weight)
    plain, turned = (priors_seen(slices, some_latents(), sign) for sign in (1.0, -1.0))
    own = torch.randn(2, 1, POSITIONS, 8, generator=torch.Generator().manual_seed(1))[0]
    shifts = [priors[1].mean - own[..., 2:4] for priors in (plain, turned)]
    assert shifts[0].abs().min() > 0
    assert torch.allclose(shifts[0], -shifts[1], atol=1e-6)
    assert torch.equal(plain[1].log_scale, turned[1].log_scale)


def test_surprises_are_what_they_say():
    """A deviation of two scales; one far out is bounded; one where next to nothing is expected."""
    coded = torch.tensor([5.0, 103.0, 0.0]).view(1, 1, 3)
    mean = torch.tensor([1.0, 3.0, 0.0]).view(1, 1, 3)
    log_scale = torch.tensor([math.log(2.0), 0.0, -50.0]).view(1, 1, 3)
    deviation, magnitudes = Normalise(BOUNDS)(coded, mean, log_scale)
    assert deviation.flatten().tolist() == pytest.approx([2.0, 4.0, 0.0])
    energy, expected, absolute = magnitudes.view(MAGNITUDES, 3).tolist()
    assert energy == pytest.approx([math.log1p(16 / 4.25), math.log1p(1e4 / 1.25), 0.0])
    assert expected == pytest.approx([0.8, 0.5, 0.0])
    assert absolute == pytest.approx([2.0, 4.0, 0.0])


def test_groups_that_cannot_be_cut_are_refused():
    with pytest.raises(ConfigError, match="slices = 3"):
        replace(PRESETS["unit"], slices=3)


def test_a_scale_beyond_the_tables_moves_means_no_further_than_theirs():
    """Otherwise what is far off leads to means still further off, until they overflow."""
    slices, site = make_sub_groups(alive=True), Site("y", slice(FIRST, FIRST + 8), Lattice.ANCHOR)
    coder = Fixed(torch.full((1, POSITIONS, 8), 1e12))
    prior = Prior(torch.zeros(1, POSITIONS, 8), torch.full((1, POSITIONS, 8), 30.0))
    slices.code(site, prior, torch.zeros(1, POSITIONS, GATES), coder)
    assert 0 < max(float(seen.mean.abs().max()) for seen in coder.priors) < 1e4
