"""Who is there, and whose turn it is: locks with fencing tokens, leaders, members, settings pushed to all, queues, numbers.

Recipes over the `Coordination` port may live here, and the fence, which checks a token where data is written (the
`Records` port). What is protected may not: no recipe knows a feature, a job or a model. But for `local`, which
describes the servers of a cluster on one machine, nothing here may know an engine, keep data that has no other home, or compare the wall clocks of two machines. Each wait has a deadline, and each attempt
is a fresh object: none outlives its session.
"""
