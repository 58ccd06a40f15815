"""A part of the suite over real nodes of JetStream, of which all is `make test-nodes`."""

import pytest

from tests.store import engines
from tests.store.test_conformance import (
    test_a_batch_with_its_key_is_stored_once,
    test_a_key_gets_its_page_again,
    test_entries_are_numbered_from_one_without_gaps,
    test_entries_come_back_byte_for_byte,
    test_of_changes_from_one_value_one_wins,
    test_only_what_left_long_ago_is_removed,
    test_parked_items_leave_each_in_its_own_way,
    test_pulls_that_come_together_never_share_an_entry,
    test_redelivery_appends_marked_copies,
    test_routed_items_leave_with_what_another_application_gets,
    test_twins_with_a_batch_key_are_stored_once,
    test_twins_with_a_key_share_one_page,
    test_what_rests_on_a_setting_is_refused_once_that_was_written,
)
from tests.store.test_doors import (
    test_a_command_pulls_what_the_server_has_just_stored,
    test_a_keyed_pull_sees_others_at_once,
    test_a_new_mailbox_of_another_is_not_made_twice,
    test_a_short_page_means_empty_through_two_doors,
    test_settings_of_others_are_seen_at_once,
    test_stores_that_work_at_once_share_one_order,
    test_what_a_command_does_is_in_the_servers_next_page,
)

__all__ = [
    "test_a_batch_with_its_key_is_stored_once",
    "test_a_command_pulls_what_the_server_has_just_stored",
    "test_a_key_gets_its_page_again",
    "test_a_keyed_pull_sees_others_at_once",
    "test_a_new_mailbox_of_another_is_not_made_twice",
    "test_a_short_page_means_empty_through_two_doors",
    "test_entries_are_numbered_from_one_without_gaps",
    "test_entries_come_back_byte_for_byte",
    "test_of_changes_from_one_value_one_wins",
    "test_only_what_left_long_ago_is_removed",
    "test_parked_items_leave_each_in_its_own_way",
    "test_pulls_that_come_together_never_share_an_entry",
    "test_redelivery_appends_marked_copies",
    "test_routed_items_leave_with_what_another_application_gets",
    "test_settings_of_others_are_seen_at_once",
    "test_stores_that_work_at_once_share_one_order",
    "test_twins_with_a_batch_key_are_stored_once",
    "test_twins_with_a_key_share_one_page",
    "test_what_a_command_does_is_in_the_servers_next_page",
    "test_what_rests_on_a_setting_is_refused_once_that_was_written",
]

pytestmark = pytest.mark.anyio


@pytest.fixture
def engine() -> engines.Tested:
    """Three nodes."""
    return engines.NODES
