"""`manage.py pull_statuses`: takes delivery statuses until the mailbox is empty."""

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error, transaction

import pullstatus
from sms.models import Page, Status


class Command(BaseCommand):
    """Safe to kill anywhere, and to run twice at once.

    The server keeps a page in this reader's hand until it is told that the page was done with. One
    transaction stores the page and its name; whoever finds the name there already stores nothing.
    """

    help = "Takes delivery statuses until the mailbox is empty."

    def handle(self, **_options: object) -> None:
        """Take pages until one is empty."""
        try:
            with pullstatus.Client(
                settings.PULLSTATUS_URL,
                settings.PULLSTATUS_SDKAPPID,
                settings.PULLSTATUS_APPKEY,
                reader="django",
            ) as client:
                for batch in client.delivery_statuses(follow=False):
                    with batch:
                        self.store(batch)
                    self.stdout.write(f"{len(batch)} stored")
        except (pullstatus.ClientError, Error) as error:
            raise CommandError(f"{error}; the next run is handed the same page") from error

    def store(self, batch: pullstatus.Batch[pullstatus.DeliveryStatus]) -> None:
        """Store a page and its name, both or none."""
        with transaction.atomic(durable=True):
            _, is_new = Page.objects.get_or_create(pull_id=batch.pull_id)
            if is_new:
                Status.objects.bulk_create(
                    Status(
                        # Some databases store no NUL, which anybody may have sent.
                        sid=status.sid.replace("\0", "\ufffd"),
                        mobile=status.mobile,
                        delivered=status.delivered,
                        received_at=status.received_at,
                    )
                    for status in batch
                )
