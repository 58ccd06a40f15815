"""What is spoken over the wire, to the byte, a folder for each face of the service.

Pure: bytes in, bytes out. This room knows nothing of sockets, clocks, applications or stores, so
a server and a client can both stand on it. Source: protocol.md.
"""
