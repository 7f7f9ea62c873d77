"""One file a step, named after it.

What changes the layout may live here; what changes what a record means may not.
"""
