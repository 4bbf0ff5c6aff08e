"""The stage runs the program's own code one step at a time, in the order of a schedule.

stage      the simulated surroundings of the program: storage, bank, clock and scheduler
script     a function that calls the program as a view or a command would, for example one shopper's request
actor      a script that the stage runs step by step: a request, a webhook or a recovery worker
step       one whole transaction, or one request to the bank; nothing else can happen during a step
fate       how a step ends: it works, or it fails in one of a few ways
choice     one step that can be next: an actor and a fate
schedule   a sequence of choices; the same schedule always gives the same result
scenario   the actors, what exists at the start, and which failures can happen
"""
