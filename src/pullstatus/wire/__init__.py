"""The v5 call `pullstatus` to the byte: signing, request, answer, codes.

Pure: bytes in, bytes out. This room knows nothing of sockets, clocks, applications or stores, so
a server and a client can both stand on it.

Source: protocol.md sections 1 to 8, itself drawn from Tencent Cloud SMS, "Pull SMS Status".
"""
