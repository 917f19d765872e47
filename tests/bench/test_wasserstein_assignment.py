"""The similarity of boxes by which `bench.wasserstein_assignment` chooses positive examples."""

import math

import pytest
import torch
from bench.wasserstein_assignment import wasserstein_similarity


@pytest.mark.parametrize("shift", [1.0, 4.0, 14.0])
def test_wasserstein_similarity_falls_alike_for_thin_and_square_boxes(shift):
    square, thin = (torch.tensor([[10.0, 10, 10 + w, 10 + h]]) for w, h in ((40, 40), (200, 8)))
    moved = torch.tensor([[0.0, shift, 0, shift]])
    found = [float(wasserstein_similarity(box, box + moved)) for box in (square, thin)]
    assert found == pytest.approx([math.exp(-shift / 20)] * 2)
    grown = thin + torch.tensor([[-shift, 0, shift, 0]])  # the center stays, half of the width grows by shift
    assert float(wasserstein_similarity(thin, grown)) == pytest.approx(math.exp(-shift / 20))
    assert float(wasserstein_similarity(thin, thin)) == 1
