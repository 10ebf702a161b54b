"""Files that are written to disk, and entries that are stored there and can be made anew.

`files` writes whole or not at all, `array_files` reads archives of arrays, `digests` tells whether
content is still what it was, `locks` whether another process is at it, and `cache` stores what is
expensive to compute: entries that are built once under a lock and verified when read. Plain values
and paths come in and go out. Calls config and machine alone.
"""
