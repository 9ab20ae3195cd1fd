"""The way of a packet: one tick over all legs, as rows of tables, and the thread that keeps its time."""
