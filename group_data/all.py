"""How the machines are reached; what they are is in the inventory."""

import os

_sudo = True
_sudo_password = os.environ.get("JARVIS_SUDO_PASSWORD")

ssh_config_file = os.environ.get("JARVIS_SSH_CONFIG")
