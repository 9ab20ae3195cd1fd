"""The way of a call: SIP, softphones, contacts, agents, queues, access and records."""
