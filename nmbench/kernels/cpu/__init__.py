"""Products with N:M weights on a CPU: lanes.c, compiled once a pattern on first use.

pattern   which of our patterns covers another one
build     pattern -> the compiled functions
product   packing, unpacking and multiplying
"""
