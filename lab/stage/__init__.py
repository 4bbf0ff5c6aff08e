"""The stage: the program's own code, one step at a time, in the order that a schedule says."""
