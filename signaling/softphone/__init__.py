"""The softphone: its JSON-RPC protocol, its WebSocket and its web page."""
