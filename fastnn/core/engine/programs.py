"""A training step as a program: which verb comes in which phase, and what is done between two phases.

In a phase every block does its share of one verb; a barrier ends the phase, and the thread that arrives last does what
is serial and opens the next one. ``plan.program`` holds the verbs of one step, in order:

    default            ROWS // WEIGHTS, which updates each tile of weights right after its gradient
    sparse X           CSR_ROWS // CSR_WEIGHTS
    small networks     STEP_THEN_SHARDS: the update of the last step, then the gradients of shards of the next batch
    stored gradients   ROWS // WEIGHTS, which stores gradients // UPDATE
    full batch         ROWS // WEIGHTS, which adds gradients up

What WEIGHTS does with a gradient, its sink, is ``plan.sink``: the update by an optimizer, STORE or ADD (see
`nn.optimizers`). Verbs are implementations of one dispatch table, so what no program asks for is never compiled.
"""

from ..compile.dispatch import dispatch_table
from ..compile.packing import IN, INT, NUMBERS, RECORD_SETS, RECORDS, ROWS

# A block's share of a verb. ``rows`` are those of all batches; ``thread`` is the block whose thread does it.
work = dispatch_table(
    "work",
    ("packed", RECORD_SETS), ("like", IN), ("rows", ROWS), ("n_batches", INT), ("block", INT), ("thread", INT),
    ("n_blocks", INT), ("workspace_size", INT),
)  # fmt: skip
ROWS_PASS_DENSE, WEIGHTS_PASS_DENSE, ROWS_PASS_CSR, WEIGHTS_PASS_CSR, STEP_THEN_SHARDS, UPDATE = range(6)

# What is serial, behind the phase ``done``: it opens the next one, or ends the call.
advance = dispatch_table(
    "advance",
    ("packed", RECORDS), ("like", IN), ("rows", ROWS), ("scalars", NUMBERS), ("losses", NUMBERS), ("n_blocks", INT),
    ("done", INT),
)  # fmt: skip
STEPS_OF_BATCHES, STEPS_OF_SHARDS, GRADIENT_OF_BATCHES = range(3)

START = 1  # the first phase of a call, which has no work
