"""The HTTP server: which call is which, the checks of a pull in their order, the ways in.

Knows HTTP and time; asks `mailbox` and `apps` for everything else. It must not know which engine
holds the entries, nor how a record or an answer is spelled.
"""
