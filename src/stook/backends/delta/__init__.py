"""Delta tables on a disk: pushed history and datasets, readable by every tool that reads Delta.

What writes, pins and reads tables of ours through deltalake may live here. Running queries may not.
"""
