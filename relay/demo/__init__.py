"""The demo: a customer, an agent and a headless call, part of the installed package."""
