"""The naive judges: a few dozen lines of obviously right Python, against which every engine is held.

What says what the right answer is, slowly and plainly, may live here. What is fast, or shared with the product, may
not: a judge must not repeat the mistake of the judged.
"""
