"""`pullstatus doctor`: is it set up as it should be, and if not, what is to be done?

A file a family of checks. In each, what reads the machine is apart from what judges: that is pure.
"""
