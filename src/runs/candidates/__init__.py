"""Kinds of candidates: how each is fitted, predicts, and is loaded from a file.

`candidate` is their common interface, `choose` maps settings and files to the kinds, and `settled`
chooses for many runs at once what their settings leave open. Settings and pictures come in, trained
models go out.
"""
