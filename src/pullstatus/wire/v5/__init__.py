"""The v5 calls: what any signed call needs, and the pull. Bytes in, bytes out.

Source: protocol.md sections 1 to 8.
"""
