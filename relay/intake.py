"""From the sockets to the jitter buffers: whose each datagram is, whether it is authentic, and where it plays."""
