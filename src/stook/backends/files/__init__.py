"""Plain files in a folder.

What stores each thing as one file of its own may live here; what needs a format or a driver may not.
"""
