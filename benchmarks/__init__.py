"""Timings beside other libraries and beside plain NumPy; run by `make bench`, never by the tests."""
