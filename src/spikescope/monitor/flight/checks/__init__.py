"""Kernels that check the tensors of a step: whether there is a spike among them, and whether all numbers are finite."""
