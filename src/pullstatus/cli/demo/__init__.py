"""`pullstatus demo`: a server with made-up traffic, and what a terminal shows of it."""
