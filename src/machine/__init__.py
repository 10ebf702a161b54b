"""The machine below a run: processor, load, memory, disk, signals, processes, pages, text, YAML,
and the types of arrays.

In and out: plain values, exceptions with a sentence for the user, context managers. Every room may
call this one; it calls none, and only `hardware` imports torch.
"""
