"""The stage runs the program's own code one step at a time, in the order of a schedule."""
