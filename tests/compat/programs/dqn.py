"""Values of actions learned from a memory of transitions, in single steps, with a target network that follows."""

import random

import torch
from spikingjelly.clock_driven import functional, neuron
from torch import nn

AGES = ("0.0.0.0.12",)


class NonSpikingLIFNode(neuron.LIFNode):
    def forward(self, dv: torch.Tensor):
        self.neuronal_charge(dv)
        return self.v


class DQSN(nn.Module):
    def __init__(self, inputs, hidden, outputs, T=5):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(inputs, hidden),
            neuron.IFNode(),
            nn.Linear(hidden, outputs),
            NonSpikingLIFNode(tau=2.0),
        )
        self.T = T

    def forward(self, x):
        for _ in range(self.T):
            self.fc(x)
        return self.fc[-1].v


def walk(position, action, rng):
    """A corridor of nine places with a prize at its end."""
    position = min(8, max(0, position + (1 if action else -1) + (rng.random() < 0.1)))
    return position, 1.0 if position == 8 else -0.05, position == 8


def seen(position):
    return torch.nn.functional.one_hot(torch.tensor(position), 9).float() * 2


def main():
    torch.manual_seed(13)
    rng = random.Random(13)
    policy, target = DQSN(9, 32, 2), DQSN(9, 32, 2)
    target.load_state_dict(policy.state_dict())
    target.eval()
    optimizer = torch.optim.RMSprop(policy.parameters(), lr=5e-3)
    memory, losses, first, moves = [], [], None, []
    for episode in range(4):
        position = rng.randrange(4)
        for _ in range(8):
            with torch.no_grad():
                values = policy(seen(position).unsqueeze(0))
            functional.reset_net(policy)
            first = values.clone() if first is None else first
            action = int(values.argmax()) if rng.random() > 0.5 else rng.randrange(2)
            after, reward, done = walk(position, action, rng)
            memory.append((seen(position), action, reward, seen(after), done))
            moves.append(action)
            position = after
            if len(memory) >= 8:
                batch = [memory[rng.randrange(len(memory))] for _ in range(8)]
                state, chosen, gain, later, end = (list(column) for column in zip(*batch, strict=True))
                value = policy(torch.stack(state)).gather(1, torch.tensor(chosen).unsqueeze(1)).squeeze(1)
                with torch.no_grad():
                    best = target(torch.stack(later)).max(1)[0]
                functional.reset_net(target)
                wanted = torch.tensor(gain) + 0.9 * best * (1 - torch.tensor(end).float())
                loss = nn.functional.smooth_l1_loss(value, wanted)
                optimizer.zero_grad()
                loss.backward()
                for p in policy.parameters():
                    p.grad.data.clamp_(-1, 1)
                optimizer.step()
                functional.reset_net(policy)
                losses.append(loss.item())
            if done:
                break
        if episode % 2:
            target.load_state_dict(policy.state_dict())
    return {"first": first, "losses": losses, "moves": moves}
