"""The crash-safe consumer behind `pull --to`: pages into files, CSV or SQLite, each once.

A library of the client's floor: it knows pages and where they go, never a store or a server. A
target keeps, in one step with a page's records, which page it was; so whatever ends a run, the next
one goes on with the page that was in flight.
"""
