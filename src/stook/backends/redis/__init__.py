"""Online rows on a Redis server or a Redis Cluster.

What speaks to Redis, names its keys, or decides what is written there lives here; the `redis` driver is imported
nowhere else. What a value holds beyond its header, or when a view is loaded and why, may not.
"""
