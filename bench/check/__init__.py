"""``bench check``: does this machine, with this harness, tell what is different from what is not?

The benchmark is put before questions whose answers are known: two callables that are one and the same, two of which
one does 5 % more work, the same again while something else runs on another core, and the times that other timers
find. What it answers, in shares with their intervals, is what its tables are worth on this machine.

    messages.py    what crosses the border between the check and its processes
    plan.py        which questions are put, and how often
    judge.py       from ratios to shares, intervals, and the smallest difference that is told apart
    session.py     the order of things: processes, load, findings; knows no torch and starts nothing itself
    idle.py        what happens to the machine at rest, and while pairs are timed
    work.py        kernels of a wanted duration, and how a pair of them is timed
    peers.py       the other timers (pytest_timer.py: the one that needs a session of its own)
    worker.py      one fresh process
    load.py        what runs on the other core
    launch.py      starts the processes
    tell.py        the page that a person reads, and the JSON

Nothing here changes a measured number of a sweep.
"""
