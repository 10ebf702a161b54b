"""What a run or a sweep may be told: typed, range-checked settings from conf/ and the command line.

One module for each group of settings; `checks` has what makes a field of them, `compose` lets Hydra
join files and overrides, `plugins` adds what a user names, and `command_line` gives every entry its
help, messages and exit codes. Overrides come in, frozen dataclasses go out. Calls machine alone.
"""
