"""Notification channels for alerts, one file each.

May import model and errors. A hook never blocks its caller: it has its own bounded queue, task
and retries, so that a receiver that hangs delays no other hook.
Decided against: shell commands (a receiver is a program with an address), and exactly-once
delivery (impossible: a notification has a key by which the receiver recognises a duplicate).
"""

from meterd.alerts.hooks.notification import Hook, Notification
from meterd.alerts.hooks.webhook import Webhook

__all__ = ["Hook", "Notification", "Webhook"]
