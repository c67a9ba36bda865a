"""The longer tests of tests/store/test_hours.py, on each of the servers."""

import pytest

from tests.store import test_hours as sealing

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("elsewhere")]

test_clock_set_forward = sealing.test_a_clock_that_leaps_deletes_nothing
test_holes = sealing.test_a_hole_over_days_is_filled_when_the_counter_returns
test_plain_rows = sealing.test_plain_rows_are_there_for_people
test_quarters = sealing.test_quarters_of_a_counter_add_up_over_journal_blocks_and_days
test_retention = sealing.test_raw_samples_go_by_the_day_and_roll_ups_stay
test_sealed_days = sealing.test_sealed_and_closed_days_answer_as_the_journal_did
test_late_polls = sealing.test_late_and_repeated_polls_find_their_place
