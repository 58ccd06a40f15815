"""What people build instead in an afternoon: a queue they know, behind a small HTTP service.

    services   the servers themselves, each on a temporary folder, tuned as its manual says
    front      the HTTP service: without a framework, and with FastAPI; in a venv of its own
    redis_lists, postgresql, rabbitmq, jetstream
               how records get in and out of each
    __main__   measures them in turns with the product: `make bench-peers`

Each is made as good as somebody would who counts microseconds: one round trip a request, commands
pipelined, a batch stored as a whole, pages joined by the server where it can.

They are spared what the product does beside: no signature is checked, no journal is kept, a page
that was lost on its way is gone.
"""
