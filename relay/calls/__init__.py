"""The way of a call through the process: the exchange of trunks, softphones and contacts, and its shell."""
