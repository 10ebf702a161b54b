"""Sweeps: a race of families in a search, with trials as tracked runs, finals, and a display.

In come the settings of a sweep; out come a study, runs, and a `SweepRecord`. It calls the search,
and in the workers the runs.

Before the first trial `launch` chooses families by the pictures (`study_pictures`), reads what they
may try (`families`) and opens the study; `race` starts the workers. Then `prepare` goes through the
families: an estimate (`short_budget`) may leave one out; a worker measures it (`tasks`,
`measuring`) within its share of the time (`clock`); and `reduction` makes it fit. What is known of
it then is a `Prepared` (`prepared`), and its own configuration is enqueued. The search goes by
`race_rules`: `forecast` says which trials end in time, and `finals_time` how much of it is kept for
the finals (`finalists`); where no trial ends in time, the cheapest of all is run (`minimal_trial`).
"""
