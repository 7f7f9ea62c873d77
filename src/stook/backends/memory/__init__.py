"""Every port in plain Python, kept in memory: the fakes of all tests, and engines for trying things out.

One small module per port may live here, passing the same contract as the engines. What is faster but harder to
believe may not: these are the references. Each opening starts empty; nothing outlives its process.
"""
