"""The division of pictures into those that train, that validate and that test.

`splits` divides a data set into parts and `folds` divides those for cross-validation, both by the
`groups` that must stay together; `test_usage` counts how often a test part was measured. Content
hashes, classes and group names come in; a `Split` goes out. Calls storage alone.
"""
