"""The weight average: an exponential moving one, short at first, that a step can be left out of."""

from __future__ import annotations

import pytest
import torch

from mambaic_train.optim import WeightAverage


def test_average_moves_towards_the_weights():
    layer = torch.nn.Linear(2, 1)
    start = layer.weight.detach().clone()
    average = WeightAverage(layer, 0.9)
    with torch.no_grad():
        layer.weight += 1
    average.update(0)  # of a decay of 1 / 10
    assert torch.allclose(average.values["weight"], start + 0.9)
    average.update(10**6)
    assert torch.allclose(average.values["weight"], start + 0.91)
    average.update(10**6, torch.tensor(0.0))
    assert torch.allclose(average.values["weight"], start + 0.91)
    weights = layer.weight.detach().clone()
    average.swap()
    assert torch.allclose(layer.weight, start + 0.91)
    average.swap()
    assert torch.equal(layer.weight, weights)


@pytest.mark.parametrize("step", [0, 10**6])
def test_average_is_that_of_one_parameter_at_a_time(step):
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 4)
    average = WeightAverage(layer, 0.99)
    before = {name: value.clone() for name, value in average.values.items()}
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    average.update(step)
    share = 1 - min(0.99, (step + 1) / (step + 10))
    for name, parameter in layer.named_parameters():
        expected = before[name].lerp(parameter.detach(), share)
        assert torch.allclose(average.values[name], expected, atol=1e-6)
