"""Kinds of candidates: how each is fitted, predicts, and is loaded from a file.

`candidate` is their common interface; `network`, `classical`, `ensemble` and `soup` are the kinds,
and `choose` maps settings and files to them. Settings and pictures come in, trained models go out.
Modules here may call `src.runs.build`, training, features and serving, and no module imports
`choose` but those outside.
"""
