"""A sweep, whole: trials as tracked runs, the parent run, the finalists, and what a person sees."""
