"""`pullstatus status`: how a running server stands, by its figures alone."""
