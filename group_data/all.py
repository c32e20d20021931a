"""How the machines are reached; what they are is in the inventory."""

import os

_sudo = True

if "JARVIS_SUDO_PASSWORD" in os.environ:
    _sudo_password = os.environ["JARVIS_SUDO_PASSWORD"]

if "JARVIS_SSH_CONFIG" in os.environ:
    ssh_config_file = os.environ["JARVIS_SSH_CONFIG"]
