from __future__ import annotations

from relay import provision
from relay.config import Settings


def test_contacts_name_a_chosen_port_and_leave_a_free_one_to_the_connection():
    settings = Settings.model_validate({})
    assert provision.user_agent(settings, {"tls": 5061}).contact_ports == (("tls", 5061),)
    assert provision.user_agent(settings, {"tls": 0}).contact_ports == ()
