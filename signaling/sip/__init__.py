"""A sans-IO SIP stack: messages, transactions, dialogs, the user agent, and its sockets."""
