"""Small data made from seeds, for the programs beside this file."""

import torch


def images(n, channels=1, size=8, classes=4, seed=0):
    """`n` images of `classes` kinds, each a pattern of its own under noise, and their labels."""
    made = torch.Generator().manual_seed(seed)
    patterns = torch.rand(classes, channels, size, size, generator=made)
    labels = torch.randint(classes, (n,), generator=made)
    return (patterns[labels] + 0.3 * torch.randn(n, channels, size, size, generator=made)).clamp(0, 1), labels


def events(n, steps, size=16, classes=4, seed=0):
    """Frames `[N, T, 2, H, W]` counted from events of dots that move into one of `classes` directions, and labels."""
    made = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=made)
    frames = torch.zeros(n, steps, 2, size, size)
    for sample, label in enumerate(labels.tolist()):
        at = torch.randint(size, (12, 2), generator=made)
        move = torch.tensor([(0, 1), (1, 0), (0, -1), (-1, 0)][label])
        for step in range(steps):
            jitter = torch.randint(-1, 2, (12, 2), generator=made)
            for polarity, (y, x) in enumerate((at + step * move + jitter) % size):
                frames[sample, step, polarity % 2, y, x] += 1
    return frames, labels


def signals(n, steps, channels, classes=4, seed=0):
    """Sequences `[N, T, C]`, waves with a frequency of their class under noise, and labels."""
    made = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=made)
    time = torch.arange(steps).view(1, steps, 1) / steps
    phase = torch.rand(n, 1, channels, generator=made)
    waves = torch.sin(2 * torch.pi * ((1 + labels.view(n, 1, 1)) * time + phase))
    return waves + 0.2 * torch.randn(n, steps, channels, generator=made), labels


def batches(x, y, size):
    """Pairs of `size` samples, in their order."""
    return list(zip(x.split(size), y.split(size), strict=True))
