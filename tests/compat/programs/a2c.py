"""Advantage actor and critic on a pole that falls, in single steps; the read-out is a neuron that never fires."""

import math

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn
from torch.distributions import Categorical

AGES = ("0.0.0.0.14",)
STEPS = 6


class Poles:
    """Several carts with a pole each, integrated by Euler's rule."""

    def __init__(self, n, seed):
        self.made = torch.Generator().manual_seed(seed)
        self.state = 0.05 * torch.randn(n, 4, generator=self.made)

    def step(self, action):
        x, dx, a, da = self.state.unbind(1)
        push = 10.0 * (2 * action.float() - 1)
        whirl = (push + 0.05 * da**2 * a.sin()) / 1.1
        dda = (9.8 * a.sin() - a.cos() * whirl) / (0.5 * (4 / 3 - 0.1 * a.cos() ** 2 / 1.1))
        ddx = whirl - 0.05 * dda * a.cos() / 1.1
        self.state = torch.stack([x + 0.02 * dx, dx + 0.02 * ddx, a + 0.02 * da, da + 0.02 * dda], 1)
        done = (self.state[:, 2].abs() > 12 * math.pi / 180) | (self.state[:, 0].abs() > 2.4)
        fresh = 0.05 * torch.randn(self.state.shape, generator=self.made)
        self.state = torch.where(done.unsqueeze(1), fresh, self.state)
        return self.state, torch.ones(len(done)), done


class NonSpikingLIFNode(neuron.LIFNode):
    def single_step_forward(self, x: torch.Tensor):
        self.v_float_to_tensor(x)
        if self.training:
            self.neuronal_charge(x)
        else:
            if self.v_reset is None:
                self.v = self.v + (x - self.v) / self.tau
            else:
                self.v = self.v + (x - (self.v - self.v_reset)) / self.tau
        return self.v


class ActorCritic(nn.Module):
    def __init__(self, inputs, outputs, hidden):
        super().__init__()
        self.critic = nn.Sequential(
            layer.Linear(inputs, hidden),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
            layer.Linear(hidden, 1),
            NonSpikingLIFNode(tau=2.0),
        )
        self.actor = nn.Sequential(
            layer.Linear(inputs, hidden),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
            layer.Linear(hidden, outputs),
            NonSpikingLIFNode(tau=2.0),
        )

    def forward(self, x):
        for _ in range(STEPS):
            self.critic(x)
            self.actor(x)
        value, scores = self.critic[-1].v, self.actor[-1].v
        return Categorical(torch.softmax(scores, dim=1)), value


def main():
    torch.manual_seed(12)
    envs, net = Poles(4, seed=12), ActorCritic(4, 2, 32)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    state, losses, first = envs.state, [], None
    for _ in range(3):
        log_probs, values, rewards, masks, entropy = [], [], [], [], 0.0
        for _ in range(5):
            dist, value = net(state)
            functional.reset_net(net)
            first = torch.cat([dist.probs, value], 1).detach() if first is None else first
            action = dist.sample()
            state, reward, done = envs.step(action)
            entropy += dist.entropy().mean()
            log_probs.append(dist.log_prob(action).unsqueeze(1))
            values.append(value)
            rewards.append(reward.unsqueeze(1))
            masks.append(1 - done.float().unsqueeze(1))
        with torch.no_grad():
            _, running = net(state)
        functional.reset_net(net)
        returns = []
        for reward, mask in zip(reversed(rewards), reversed(masks), strict=True):
            running = reward + 0.99 * running * mask
            returns.insert(0, running)
        advantage = torch.cat(returns) - torch.cat(values)
        loss = -(torch.cat(log_probs) * advantage.detach()).mean() + 0.5 * advantage.pow(2).mean() - 0.001 * entropy
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {"first": first, "losses": losses, "state": state}
