"""The parts of compare_peers.py: the table of workloads, one module per library, the child that times one library."""
