"""What `koppel serve --demo` tells the person in front of it."""

from __future__ import annotations

from urllib.parse import quote

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from relay.ready import Ready


def welcome(ready: Ready) -> None:
    """Print it, to standard error: standard output is for machines."""
    assert ready.agent is not None, "a relay under the demo switch has the demo's agent"
    address = f"{ready.softphone_url}#token={quote(ready.agent.token, safe='')}"
    text = Text.assemble(
        ("\nOpen the softphone, already logged in as the demo agent:\n\n", "bold"),
        (f"  {address}\n\n", "bold cyan"),
        "Your browser will warn about the certificate: this relay made it itself a moment ago, and no\n"
        "public authority vouches for it. On your own machine that is fine: choose «Advanced», then\n"
        "«Proceed». To get rid of the warning, trust this authority:\n\n",
        (f"  {ready.ca_file}\n\n", "cyan"),
        "Allow the microphone; seconds later a demo customer rings. Answer with the button or the key A.\n"
        "Ctrl-C stops the relay.\n",
    )
    # Soft wrap: an address that is broken or cut cannot be opened.
    console = Console(stderr=True, soft_wrap=True)
    console.print(Rule("Koppel demo", style="cyan"))
    console.print(text)
    console.print(Rule(style="cyan"))
