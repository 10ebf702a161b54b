"""Who is tried next, who is stopped, and on what it runs: studies, slots and workers."""
