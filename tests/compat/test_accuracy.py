"""The share of right answers as training programs import it."""

import pytest
import torch

from spikescope.compat.accuracy import accuracy


def test_it_is_the_share_counted_sample_by_sample():
    scores, classes = torch.rand(50, 7), torch.randint(7, (50,))
    for k, found in zip((1, 3, 7), accuracy(scores, classes, topk=(1, 3, 7)), strict=True):
        hits = sum(int(c) in s.sort(descending=True).indices[:k].tolist() for s, c in zip(scores, classes, strict=True))
        assert found.item() == pytest.approx(100 * hits / 50)
    one_hot = torch.nn.functional.one_hot(classes, 7).float()
    assert accuracy(scores, one_hot) == accuracy(scores, classes)


def test_scores_of_a_sequence_are_refused_in_words():
    with pytest.raises(ValueError, match=r"y\.mean\(0\)"):
        accuracy(torch.rand(4, 2, 3), torch.tensor([0, 1]))
