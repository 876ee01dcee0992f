"""The step of a neuron and its derivative, as flat graphs of pointwise operations."""
