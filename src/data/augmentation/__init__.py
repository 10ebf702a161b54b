"""Random changes to batches of training pictures, on their own device.

`augment` draws the changes from (seed, epoch, sample id); `policies` are those of TrivialAugment
and RandAugment; `transforms`, `photometric` and `affine` are pure functions of tensors. Images
(B, C, H, W) come in and go out. Calls `src.data.randomness` and config.
"""
