"""This machine: its clock, its file locks, and its log.

What stands in for a cluster service on one machine may live here. What needs a driver that is not the operating
system may not; it has a folder of its own.
"""
