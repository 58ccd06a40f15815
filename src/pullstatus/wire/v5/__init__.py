"""The v5 calls: what any signed call needs, the pull, and those that ask and take nothing.

Bytes in, bytes out. Source: protocol.md sections 1 to 9.
"""
