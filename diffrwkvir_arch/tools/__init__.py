"""What the verbs of the command and the benchmarks call."""
