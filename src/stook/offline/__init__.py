"""History: point-in-time joins, and datasets with manifests that say what was read.

What reads or writes history through the `Engine` and `Tables` ports may live here. Nothing here may know the
online store, pin a history itself (ingest does), or ask what time it is: times are arguments.
"""
