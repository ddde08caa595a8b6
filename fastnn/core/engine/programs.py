"""A training step as a program: the verbs of its phases, and the serial work between two phases.

In a phase every block does its share of one verb. A barrier (``//``) ends the phase; the thread that arrives last calls
``advance``, which does the serial work and releases the next phase. ``plan.program`` holds the verbs of a step:

    default            ROWS_PASS_DENSE // WEIGHTS_PASS_DENSE //
    sparse X           ROWS_PASS_CSR // WEIGHTS_PASS_CSR //
    shards             STEP_THEN_SHARDS //: update by the last batch, then the gradients of shards of the next batch
                       (few parameters, large batches: see `plan.n_shards`)
    stored gradients   rows pass // weights pass, which stores gradients // UPDATE //
    clipped gradients  the same, and the serial work before UPDATE adds up the norm and sets the scale
    full batch         rows pass // weights pass, which adds gradients up //
    dropped inputs     the dense passes on a copy of the batch's rows, without splits and shards

``plan.sink`` says what the weights pass does with the gradient of a tile: an optimizer's update, or one of the sinks
that keep it, see `nn.optimizers`. Verbs are implementations of a dispatch table, so only verbs of programs in use are
compiled.
"""

from ..compile.dispatch import dispatch_table
from ..compile.packing import IN, INT, NUMBERS, RECORD_SETS, RECORDS, ROWS

# A block's share of a verb. ``rows`` are those of all batches; ``thread`` is the number of the thread that does it.
work = dispatch_table(
    "work",
    ("packed", RECORD_SETS), ("like", IN), ("rows", ROWS), ("n_batches", INT), ("block", INT), ("thread", INT),
    ("n_blocks", INT), ("workspace_size", INT),
)  # fmt: skip
ROWS_PASS_DENSE, WEIGHTS_PASS_DENSE, ROWS_PASS_CSR, WEIGHTS_PASS_CSR, STEP_THEN_SHARDS, UPDATE = range(6)
ROWS_PASS_DROPPED, WEIGHTS_PASS_DROPPED = range(6, 8)  # dense X whose entries are dropped

# The serial work after the phase ``done``: it releases the next phase, or ends the call.
advance = dispatch_table(
    "advance",
    ("packed", RECORDS), ("like", IN), ("rows", ROWS), ("scalars", NUMBERS), ("losses", NUMBERS), ("n_blocks", INT),
    ("done", INT),
)  # fmt: skip
STEPS_OF_BATCHES, STEPS_OF_SHARDS, GRADIENT_OF_BATCHES, CLIPPED_STEPS = range(4)

START = 1  # the first phase of a call, which has no work
