"""Durable mailboxes for SMS delivery statuses and replies.

Gateways append records; each application pulls its own, up to 100 at a time, with the signed call
that clients of Tencent Cloud SMS already make. What was pulled is never returned again, and stays
readable for a retention time.
"""
