"""Plain records of runs, sweeps, comparisons and champions, and the files that hold them.

What one room hands to another, or to reporting: frozen dataclasses without behaviour beyond reading
and writing themselves, whole and checksummed. Calls targets, storage and machine.
"""
