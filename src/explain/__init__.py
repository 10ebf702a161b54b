"""Class activation maps: the places of pictures by which a network decided.

In: a network in evaluation mode, normalised pictures and classes. Out: maps in [0, 1] of the
pictures' size, by gradients (`grad_cam`) or by the scores of a fully convolutional network
(`score_maps`). Pure functions on tensors; calls no other room.
"""
