"""Facts about pictures before training: faults, copies, near-duplicates, statistics.

`audit` reads every file once, before it is decoded, and `findings` keeps what it found; `suspects`
examines decoded pictures by what `picture_statistics` and `near_duplicates` compute; `data_summary`
puts the results into words. Sources and picture stores come in; plain records and sentences go out.
Calls `decoding`, `splitting` and storage.
"""
