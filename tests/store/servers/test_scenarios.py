"""What tests/store says of a file is true of servers: the same tests, on each of them."""

import pytest

from tests.store import test_hours as sealing
from tests.store import test_writer as writing

pytestmark = pytest.mark.usefixtures("elsewhere")

test_restarts = sealing.test_a_restart_between_any_two_steps_changes_nothing
test_slow_devices = sealing.test_a_slow_device_is_sealed_by_the_day_and_carried_meanwhile
test_clock_set_back = writing.test_a_clock_that_steps_back_loses_nothing
test_series_go_on = writing.test_a_restart_goes_on_with_the_same_series
test_second_daemon = writing.test_a_second_daemon_on_the_same_data_is_refused
test_units = writing.test_a_unit_that_changes_begins_another_series
test_closing = writing.test_closing_commits_everything
test_commits = writing.test_commits_come_by_themselves
test_memos = writing.test_memos_are_found_again_after_a_restart
test_status = writing.test_status_tells_how_the_writer_fares
test_replacing = writing.test_the_same_time_and_series_again_replaces
test_qualities = writing.test_what_was_taken_is_stored_with_quality_and_reason
