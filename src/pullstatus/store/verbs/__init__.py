"""What each verb does to the rows of a store, the same for every engine that keeps them.

`group` has a group of operations carried out, each by its own module, on the `tables` of an open
transaction. That is a protocol: an engine says in it how its rows are read and written, and
whether at once or in one go before the commit. Nothing here knows SQL, a clock, or an engine.
"""
