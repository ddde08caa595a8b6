"""What Python runs at the start of the child processes of ``python -m fastnn run``: see `sitecustomize`."""
