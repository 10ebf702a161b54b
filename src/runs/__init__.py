"""One run, from settings to summary, and what is done with finished ones.

`experiment` is the way in: a run of one candidate or a `cross_validation`, both with the same
`lifecycle`. `build` makes objects of settings, `resolve` replaces every `auto`, and `folder`,
`seal` and `fold_records` keep what a run leaves. This room may call training, features, tracking,
serving, reporting and the rooms below them; it knows no sweep.
"""
