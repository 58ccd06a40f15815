"""`pullstatus push`: the records of a file into a mailbox, once each, over any number of runs."""
