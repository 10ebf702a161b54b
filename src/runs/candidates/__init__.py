"""Kinds of candidates: how each is fitted, predicts, and is loaded from a file.

`candidate` is their common interface, and `choose` maps settings and files to the kinds. Settings
and pictures come in, trained models go out.
"""
