"""Notification channels for alerts, one file each.

May import model and errors. A hook never blocks its caller: it has its own bounded queue, task
and retries, so that a receiver that hangs delays no other hook.
Decision: docs/decisions/0015.
"""

from meterd.alerts.hooks.notification import Hook, Notification
from meterd.alerts.hooks.webhook import Webhook

__all__ = ["Hook", "Notification", "Webhook"]
