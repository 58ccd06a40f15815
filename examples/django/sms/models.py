"""What became of the SMS that were sent, and the key that brings the next page of it."""

import secrets

from django.db import models


def new_key() -> str:
    """A key that no page has had."""
    return secrets.token_hex(16)


class Status(models.Model):
    """One delivery status."""

    sid = models.CharField(max_length=64, db_index=True)
    mobile = models.CharField(max_length=32)
    delivered = models.BooleanField()
    received_at = models.DateTimeField()

    def __str__(self) -> str:
        """Without the number: this stands in logs."""
        return self.sid


class PageKey(models.Model):
    """The key of the page that is asked for; there is one."""

    key = models.CharField(max_length=32, default=new_key)

    def __str__(self) -> str:
        """The key."""
        return self.key
