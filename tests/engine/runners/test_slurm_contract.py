"""What every Host promises (test_host_contract.py), kept by a Slurm cluster too: the same tests, on jobs.

Left out: what Slurm decides itself (cores), and tests that look for the job's processes on this machine.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import test_host_contract as contract
from runner_bench import Bench
from slurmd import Cluster, serve
from test_slurm import benched, make_host

test_a_failing_step = contract.test_a_failing_step_ends_the_attempt_with_its_code
test_a_missing_command = contract.test_a_command_that_does_not_exist_fails_with_its_message_in_the_log
test_fifty_launches = contract.test_fifty_launches_at_once_run_once
test_any_offset = contract.test_following_from_any_offset_gives_the_rest_of_the_same_bytes
test_fresh_home = contract.test_home_and_tmp_are_fresh_and_writable
test_cancel_before_start = contract.test_cancelling_before_the_start_means_it_never_starts
test_cancel_running = contract.test_cancelling_a_running_attempt_ends_it_and_says_so
test_launch_and_cancel_at_once = contract.test_launch_and_cancel_at_once_leave_a_clear_end
test_deadline = contract.test_a_deadline_ends_a_step
test_many_at_once = contract.test_many_attempts_are_followed_at_once_without_mixing
test_two_followers = contract.test_two_followers_of_one_attempt_see_the_same
test_staging_twice = contract.test_staging_twice_changes_nothing
test_remove = contract.test_remove_deletes_even_what_the_candidate_locked
test_allocations = contract.test_allocations_are_held_until_released
test_closing = contract.test_closing_the_host_ends_its_followers_and_not_the_attempt

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from serve(tmp_path_factory.mktemp("slurm"))


@pytest.fixture
async def bench(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Bench]:
    root = tmp_path / 'it\'s a "place" with $pecial\nnames \N{SNOWMAN}'
    root.mkdir()
    async with benched(make_host(cluster, root), root) as bench:
        yield bench
