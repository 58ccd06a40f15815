"""What people build instead in an afternoon: a queue they know, behind a small HTTP service.

    services   the servers themselves, each on a temporary folder, tuned as its manual says
    front      the HTTP service: FastAPI, and a leaner one; runs in a venv of its own
    redis_lists, postgresql, rabbitmq, jetstream, sqs
               how records get in and out of each
    __main__   measures them beside the product: `make bench-peers`

They are spared what the product does beside: no signature is checked, no journal is kept, a page
that was lost on its way is gone.
"""
