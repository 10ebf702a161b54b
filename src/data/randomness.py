"""Random numbers as a function of what they are for, never of how many were drawn before.

A generator with a state makes every draw depend on all earlier ones, so a resumed run, another
number of devices or another order of batches sees other augmentations. Here a draw is a hash of its
coordinates (seed, epoch, sample, stream), so it is the same wherever and whenever it is made.
This is a counter-based generator in the sense of Salmon et al., "Parallel random numbers: as easy
as 1, 2, 3" (SC 2011), with the mixing function of SplitMix64: Steele, Lea and Flood, "Fast
splittable pseudorandom number generators" (OOPSLA 2014). Not for cryptography.

Integers are 64 bits wide and wrap around; torch has them with a sign, which changes neither sums
nor products, only right shifts.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["derive_seed", "hash_words", "permutation", "uniforms"]

_MASK_64 = (1 << 64) - 1
# SplitMix64: the step between neighbouring counters (2**64 over the golden ratio, odd) and the
# multipliers of its finaliser.
_STEP = 0x9E3779B97F4A7C15
_MULTIPLIER_1 = 0xBF58476D1CE4E5B9
_MULTIPLIER_2 = 0x94D049BB133111EB
# The stream of `permutation`; far from the small numbers that callers give their streams.
_ORDER_STREAM = 0x6F72646572


def derive_seed(*numbers: int) -> int:
    """Return a seed in [0, 2**63) of the lowest 64 bits of several integers, in order."""
    return _fold(*numbers) >> 1


def uniforms(seed: int, epoch: int, sample_ids: Tensor, streams: int, *, still: int = 0) -> Tensor:
    """Return uniform numbers, (streams, B) float32 in [0, 1), multiples of 2**-24.

    Args:
        seed: the seed of the run.
        epoch: the epoch, from 0.
        sample_ids: (B,) int64, on any device, which is that of the numbers.
        streams: how many numbers a sample; those of different streams are independent.
        still: so many streams, the first ones, are those of epoch 0 in every epoch.
    """
    keys = _stream_keys(seed, epoch, streams, still, sample_ids.device)
    # The highest 24 bits, all that a float32 in [0, 1) can hold evenly. The last step of `_mix`
    # would leave them as they are.
    state = _half_mixed(torch.add(keys, sample_ids, alpha=_signed(_STEP)))
    return _shifted(state, 40) * 2.0**-24  # in float32, as one operation


def permutation(n: int, seed: int, epoch: int) -> Tensor:
    """Return a random order of 0 to n - 1: (n,) int64, on the CPU."""
    key = _signed(_fold(seed, epoch, _ORDER_STREAM))
    return torch.argsort(_mix(key + torch.arange(n) * _signed(_STEP)), stable=True)


def hash_words(words: Tensor, seed: int) -> Tensor:
    """Return a keyed hash of every row of words (N, W) int64: (N,) int64 in [0, 2**63)."""
    state = torch.full((len(words),), _signed(_fold(seed)), dtype=torch.int64)
    for column in words.unbind(1):
        state = _mix((state ^ column) + _signed(_STEP))
    return _shifted(state, 1)


def _fold(*numbers: int) -> int:
    """Return 64 unsigned bits that depend on every number and on their order."""
    state = 0
    for number in numbers:
        mixed = ((state ^ (number & _MASK_64)) + _STEP) & _MASK_64
        mixed = ((mixed ^ (mixed >> 30)) * _MULTIPLIER_1) & _MASK_64
        mixed = ((mixed ^ (mixed >> 27)) * _MULTIPLIER_2) & _MASK_64
        state = mixed ^ (mixed >> 31)
    return state


@lru_cache(maxsize=16)
def _stream_keys(seed: int, epoch: int, streams: int, still: int, device: torch.device) -> Tensor:
    """Return (streams, 1) int64: `_fold(seed, epoch, stream)` of each stream."""
    # Computed there: a copy would wait for the device.
    numbers = torch.arange(streams, device=device)[:, None]
    first, now = (_mix((numbers ^ _signed(_fold(seed, e))) + _signed(_STEP)) for e in (0, epoch))
    return torch.cat([first[:still], now[still:]])


def _mix(state: Tensor) -> Tensor:
    """Apply the finaliser of SplitMix64, a bijection in which every bit depends on every bit."""
    state = _half_mixed(state)
    return state ^ _shifted(state, 31)


def _half_mixed(state: Tensor) -> Tensor:
    """Apply all steps of `_mix` but the last, which changes the lowest 33 bits alone."""
    state = (state ^ _shifted(state, 30)) * _signed(_MULTIPLIER_1)
    return (state ^ _shifted(state, 27)) * _signed(_MULTIPLIER_2)


def _shifted(state: Tensor, bits: int) -> Tensor:
    """Return a right shift that fills with zeros; torch's own repeats the sign."""
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def _signed(bits: int) -> int:
    """Return the int64 with these 64 bits."""
    return bits - (1 << 64) if bits >> 63 else bits
