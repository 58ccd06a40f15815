"""`manage.py pull_statuses`: takes delivery statuses until the mailbox is empty."""

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

import pullstatus
from sms.models import PageKey, Status, new_key


class Command(BaseCommand):
    """Safe to kill anywhere, and to run twice at once.

    The key of the page that is asked for is committed before the page is asked for. One transaction
    stores the page and changes the key; whoever finds it changed already stores nothing.
    """

    help = "Takes delivery statuses until the mailbox is empty."

    def handle(self, **_options: object) -> None:
        """Take pages until one is empty."""
        try:
            with pullstatus.Client(
                settings.PULLSTATUS_URL,
                settings.PULLSTATUS_SDKAPPID,
                settings.PULLSTATUS_APPKEY,
                keyed=True,
            ) as client:
                while count := self.take_page(client):
                    self.stdout.write(f"{count} stored")
        except pullstatus.ClientError as error:
            raise CommandError(f"{error}; the next run asks for the same page") from error

    def take_page(self, client: pullstatus.Client) -> int:
        """Take and store one page; returns how many records it had."""
        held, _ = PageKey.objects.get_or_create(pk=1)
        page = client.pull(pullstatus.Kind.DELIVERY_STATUS, key=held.key)
        if page:  # behind an empty one the key waits for its page
            with transaction.atomic(durable=True):
                renewed = PageKey.objects.filter(pk=1, key=held.key).update(key=new_key())
                if renewed:
                    Status.objects.bulk_create(
                        Status(
                            sid=status.sid,
                            mobile=status.mobile,
                            delivered=status.delivered,
                            received_at=status.received_at,
                        )
                        for status in page
                    )
        return len(page)
