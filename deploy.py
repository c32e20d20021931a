"""Which role gets which deploy. Run it with `pyinfra inventory.py deploy.py`."""

from pyinfra import config, host

from jarvis_ops.deploys.common import common
from jarvis_ops.deploys.gateway import gateway
from jarvis_ops.deploys.inference import inference
from jarvis_ops.deploys.preflight import is_ready
from jarvis_ops.deploys.storage import storage

config.REQUIRE_PYINFRA_VERSION = "~=3.10"

if is_ready():
    common()
    if "storage" in host.groups:
        storage()
    if "inference" in host.groups:
        inference()
    if "gateway" in host.groups:
        gateway()
