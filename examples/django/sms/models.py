"""What became of the SMS that were sent, and which pages of it are stored."""

from django.db import models


class Status(models.Model):
    """One delivery status."""

    sid = models.CharField(max_length=64, db_index=True)
    mobile = models.CharField(max_length=32)
    delivered = models.BooleanField()
    received_at = models.DateTimeField(null=True)  # a carrier may have sent no such time

    def __str__(self) -> str:
        """Without the number: this stands in logs."""
        return self.sid


class Page(models.Model):
    """A page that is stored, by the name that it has at the server."""

    pull_id = models.CharField(max_length=64, primary_key=True)

    def __str__(self) -> str:
        """The name."""
        return self.pull_id
