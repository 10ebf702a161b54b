"""From decoded pictures to batches on their way to a network.

`picture_data` opens, examines and splits the pictures of a source; `loaders` orders and gathers
 batches of uint8 pictures. A `Source` and its settings come in; iterables of `Batch` go out.
Calls the other rooms of data.
"""

# Before torch: skops, which keeps classifiers, looks for these functions in one module after the
# other, in the order of their import, and is imported in half of the time if they come early.
import scipy.special  # noqa: F401
