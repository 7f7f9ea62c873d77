"""The models room: what learns and answers.

Packaging a trained model, recording how it came about, naming immutable releases, pointing deployments at them,
and answering predictions may live here. Reading features may not: callers hand in what was read, and the ports
(records, blobs, clock) come as arguments.
"""
