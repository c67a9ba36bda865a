"""What tests/store says of a file is true of servers: the same tests, on each of them."""

import pytest

from tests.store.test_sealing import (
    test_a_clock_that_leaps_deletes_nothing,
    test_a_hole_over_days_is_filled_when_the_counter_returns,
    test_a_restart_between_any_two_steps_changes_nothing,
    test_a_slow_device_is_sealed_by_the_day_and_carried_meanwhile,
    test_plain_rows_are_there_for_people,
    test_quarters_of_a_counter_add_up_over_journal_blocks_and_days,
    test_raw_samples_go_by_the_day_and_roll_ups_stay,
    test_sealed_and_closed_days_answer_as_the_journal_did,
)
from tests.store.test_writer import (
    test_a_clock_that_steps_back_loses_nothing,
    test_a_restart_goes_on_with_the_same_series,
    test_a_second_daemon_on_the_same_data_is_refused,
    test_a_unit_that_changes_begins_another_series,
    test_closing_commits_everything,
    test_commits_come_by_themselves,
    test_memos_are_found_again_after_a_restart,
    test_status_tells_how_the_writer_fares,
    test_the_same_time_and_series_again_replaces,
    test_what_was_taken_is_stored_with_quality_and_reason,
)

pytestmark = pytest.mark.usefixtures("elsewhere")

__all__ = [name for name in dir() if name.startswith("test_")]
