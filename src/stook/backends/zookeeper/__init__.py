"""ZooKeeper through kazoo: coordination by an ensemble of servers.

What knows kazoo may live here, and nothing else in the product imports it. What a node means may not be known here.
"""
