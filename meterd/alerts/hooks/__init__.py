"""Channels that alerts leave by, one file each.

May import model and errors. A hook never makes its caller wait: it has its own bounded queue,
its own task and its own retries, so that one that hangs harms nobody.
Decided against: shell commands (a receiver is a program with an address), and delivery
exactly once (nobody can: a notice carries an id by which the receiver knows it again).
"""

from meterd.alerts.hooks.notification import Hook, Notification
from meterd.alerts.hooks.webhook import Webhook

__all__ = ["Hook", "Notification", "Webhook"]
