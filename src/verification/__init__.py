"""Whether what was written is still what was written: runs, studies and stores, and what can be
done about the rest. Reads folders, yields faults; with `repair` it changes them."""
