"""The service on a laptop, with its failures on demand: for tests of what sends and pulls.

Wraps the server: pulls are the server's own, on a temporary store, so that what a test sees is
what production does. Added are the send calls, traffic by a scenario, faults, and a door for
tests (`/emulator/...`). Nothing of it is reachable in `pullstatus serve`.

    scenario     what shall happen, from a TOML file
    calls        which calls there are
    faults       what shall go wrong, and when
    carriers     which receipts carriers give, and made-up records
    sms          what a text costs, what a template makes of its parameters
    receivers    whoever is called: by pushes, or by gateways that are played
    emulation    the state: what was sent, what is still to come
    application  the calls, with their faults
    control      the door for tests
    run, thread  the running emulator, in a process or beside a test
"""
