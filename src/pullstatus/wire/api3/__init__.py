"""API 3.0 of the same service: one address, an action in a header, a signature over the request.

Source: protocol.md section 11.
"""
