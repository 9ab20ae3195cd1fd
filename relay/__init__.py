"""The way of a packet, and the process: media plane, switchboard, server and command line."""
